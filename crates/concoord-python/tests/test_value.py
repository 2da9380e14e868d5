from __future__ import annotations

import collections
import datetime
import enum
import socket
import uuid
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concoord import exception
from concoord._concoord import decode, encode

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ZONES = st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23)).map(
    lambda offset: datetime.timezone(datetime.timedelta(seconds=int(offset.total_seconds())))
)
HASHABLE = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        TEXT,
        st.binary(),
        st.datetimes(timezones=st.none() | ZONES),
        st.dates(),
        st.times(),
        st.timedeltas(),
        st.decimals(allow_nan=False),
        st.uuids(),
        st.complex_numbers(allow_nan=False),
    ),
    lambda inner: st.lists(inner).map(tuple) | st.frozensets(inner),
    max_leaves=8,
)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.sets(HASHABLE)
        | st.dictionaries(HASHABLE, inner)
    ),
    max_leaves=12,
)


def shape(value: object) -> object:
    """What `==` does not tell apart: `1`, `1.0` and `True`, and the order of a dict."""
    if isinstance(value, list | tuple):
        return type(value), [shape(item) for item in value]
    if isinstance(value, dict):
        return dict, [(shape(key), shape(item)) for key, item in value.items()]
    return type(value), repr(value) if isinstance(value, Decimal | float) else value


@given(VALUES)
def test_a_value_comes_back_as_it_went(value: object) -> None:
    assert shape(decode(encode(value))) == shape(value)


@given(st.binary())
def test_any_bytes_are_a_value_or_a_value_error(data: bytes) -> None:
    try:
        value = decode(data)
    except (ValueError, TypeError, ArithmeticError):
        return
    assert decode(encode(value)) is not NotImplemented


@pytest.mark.parametrize("bits", [62, 63, 64, 65, 127, 128, 4096])
@pytest.mark.parametrize("sign", [1, -1])
def test_ints_of_any_size(bits: int, sign: int) -> None:
    for value in (sign * 2**bits - 1, sign * 2**bits, sign * 2**bits + 1):
        assert decode(encode(value)) == value


def test_what_has_no_equal_comes_back_too() -> None:
    assert repr(decode(encode(float("nan")))) == "nan"
    assert str(decode(encode(Decimal("sNaN")))) == "sNaN"
    assert decode(encode(bytearray(b"ab"))) == b"ab"
    assert decode(encode(memoryview(b"ab"))) == b"ab"


def test_a_time_zone_comes_back_as_its_offset() -> None:
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.timezone.utc)
    assert decode(encode(at)) == at
    assert decode(encode(at)).utcoffset() == datetime.timedelta(0)


class Colour(enum.IntEnum):
    RED = 1


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (socket.socket, TypeError, "cannot encode type"),
        ([0, 1, Fraction(1, 2)], TypeError, "item 2: cannot encode fractions.Fraction"),
        (
            {"job": {"tasks": ((), object())}},
            TypeError,
            "value of 'job', value of 'tasks', item 1: cannot encode object",
        ),
        (
            {Colour.RED: 1},
            TypeError,
            "key <Colour.RED: 1>: cannot encode test_value.Colour: convert it with int(...)",
        ),
        (Colour.RED, TypeError, "cannot encode test_value.Colour: convert it with int(...)"),
        (Point(1, 2), TypeError, "cannot encode test_value.Point: convert it with tuple(...)"),
        (Text("a"), TypeError, "cannot encode test_value.Text: convert it with str(...)"),
        (
            collections.OrderedDict(),
            TypeError,
            "cannot encode collections.OrderedDict: convert it with dict(...)",
        ),
        ({object}, TypeError, "an element of the set: cannot encode type"),
        (ValueError(1, object()), TypeError, "args[1]: cannot encode object"),
        (
            ["\ud800"],
            ValueError,
            "item 0: cannot encode a str with a lone surrogate: it is not Unicode text",
        ),
        (test_ints_of_any_size, TypeError, "cannot encode function"),
    ],
)
def test_what_cannot_travel_is_named(value: object, error: type, words: str) -> None:
    with pytest.raises(error) as raised:
        encode(value)
    assert str(raised.value) == words
    assert type(raised.value) is error


def test_a_cycle_is_an_error() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    with pytest.raises(ValueError, match="it contains itself, or nests deeper than 96 levels"):
        encode(cycle)
    with pytest.raises(ValueError, match="it contains itself"):
        encode({"a": cycle})


def test_nesting_up_to_the_limit_travels() -> None:
    value: object = 1
    for _ in range(96):
        value = [value]
    assert decode(encode(value)) == value
    with pytest.raises(ValueError, match="deeper than 96"):
        encode([value])


class StrangeZone(datetime.tzinfo):
    def utcoffset(self, at: datetime.datetime | None) -> datetime.timedelta:
        raise RuntimeError("no idea")


def test_code_that_is_asked_and_raises_is_the_cause() -> None:
    with pytest.raises(
        TypeError, match="item 0: cannot encode it: RuntimeError: no idea"
    ) as raised:
        encode([datetime.datetime(2026, 1, 1, tzinfo=StrangeZone())])
    assert isinstance(raised.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    "error",
    [
        KeyError("a"),
        FileNotFoundError(2, "no such thing"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        ValueError("one", 2, None),
        StopIteration(3),
        exception.NonDeterministicError("no"),
        exception.CallTimeoutError("late"),
    ],
)
def test_exceptions_that_are_known_come_back_as_what_they_are(error: Exception) -> None:
    back = decode(encode(error))
    assert type(back) is type(error)
    assert back.args == error.args


class OurOwnError(Exception):
    pass


@pytest.mark.parametrize("error", [OurOwnError("a", 1), SystemExit(1), KeyboardInterrupt()])
def test_other_exceptions_come_back_as_remote_errors(error: BaseException) -> None:
    back = decode(encode(error))
    assert type(back) is exception.RemoteError
    assert (back.module, back.name) == (type(error).__module__, type(error).__name__)
    assert back.args == error.args
    again = decode(encode(back))
    assert (again.module, again.name, again.args) == (back.module, back.name, back.args)


def test_what_a_peer_names_is_never_called_or_imported() -> None:
    # An encoded exception that names a function of builtins, or one of our modules' other names.
    honest = encode(OurOwnError("echo"))
    for module, name in [(b"builtins", b"exec"), (b"builtins", b"print"), (b"os", b"error"),
                         (b"concoord.exception", b"Any"), (b"builtins", b"object")]:  # fmt: skip
        hostile = honest.replace(b"\x6atest_value", bytes([0x60 + len(module)]) + module)
        hostile = hostile.replace(b"\x6bOurOwnError", bytes([0x60 + len(name)]) + name)
        assert hostile != honest
        back = decode(hostile)
        assert type(back) is exception.RemoteError
        assert back.name == name.decode()


def test_a_uuid_keeps_its_bytes() -> None:
    assert decode(encode(uuid.UUID(int=1))) == uuid.UUID(int=1)
