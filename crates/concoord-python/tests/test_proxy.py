from __future__ import annotations

import inspect
import os
import pickle
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest
import tencounter
from scripted import ScriptedReplica

import concoord
from concoord import exception
from concoord._interface import Interface, Method, Parameter
from concoord.proxy.counter import Counter

if TYPE_CHECKING:
    from collections.abc import Iterator


class Bank(tencounter.TenCounter):
    """A class of the test."""

    def hang(self) -> None:
        """Never return."""

    def refused(self) -> None:
        """Be refused."""

    def sort(self, key=len, *, reverse=False):
        """Have a default that is no literal."""
        return [key is len, reverse]


@pytest.fixture
def replica() -> Iterator[ScriptedReplica]:
    with ScriptedReplica(Bank) as replica:
        yield replica


@pytest.fixture
def bank(replica: ScriptedReplica) -> Iterator[Bank]:
    bank = concoord.proxy_for(Bank)(replica.address, timeout=20)
    yield bank
    concoord.close(bank)


def test_a_proxy_is_used_as_if_it_were_the_object(bank: Bank) -> None:
    assert bank.increment() == 10
    assert bank.increment(5, note="x") == 15
    assert bank.increment(by=1) == 16
    assert bank.keep("a", b"b") == 1
    assert bank.echo(1, (2,), x={3: {4}}) == [(1, (2,)), {"x": {3: {4}}}]
    assert bank.close("mine") == "closed mine"
    assert len(bank) == 16
    assert "a" in bank
    assert "b" not in bank
    assert bank["a"][0] == b"b"
    assert bank
    bank.__concoordinit__(3)
    assert (bank.getvalue(), bool(bank), str(bank)) == (3, True, "TenCounter(3)")


def test_defaults_that_are_no_literals_come_from_the_class(bank: Bank) -> None:
    assert bank.sort() == [True, False]
    assert bank.sort(reverse=True) == [True, True]
    assert str(inspect.signature(type(bank).sort)) == "(self, key=Ellipsis, *, reverse=False)"


def test_it_looks_like_the_class() -> None:
    proxy = concoord.proxy_for(Bank)
    assert (proxy.__name__, proxy.__doc__) == ("Bank", "A class of the test.")
    assert issubclass(proxy, concoord.Proxy)
    assert inspect.signature(proxy.increment) == inspect.signature(Bank.increment)
    assert proxy.increment.__doc__ == Bank.increment.__doc__
    assert not hasattr(proxy, "made")
    assert not hasattr(proxy, "tens")
    assert not hasattr(proxy, "_private")


def test_wrong_arguments_are_type_errors_here_in_pythons_words(bank: Bank) -> None:
    with pytest.raises(TypeError) as raised:
        bank.increment(1, 2)
    words = "Bank.increment() takes from 1 to 2 positional arguments but 3 were given"
    assert str(raised.value) == words
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'value'"):
        bank.keep("a")
    with pytest.raises(TypeError, match=r"argument 'by', item 1: cannot encode object"):
        bank.increment([1, object()])
    with pytest.raises(TypeError, match=r"argument 'note': cannot encode object"):
        bank.increment(note=object())
    with pytest.raises(TypeError, match=r"argument 2: cannot encode object"):
        bank.echo(1, object())
    assert bank.getvalue() == 0


def test_what_the_method_raises_is_raised(bank: Bank) -> None:
    with pytest.raises(KeyError) as raised:
        bank["nothing"]
    assert raised.value.args == ("nothing",)
    with pytest.raises(exception.RemoteError, match=r"tencounter.OverflowedError: \('no room'"):
        bank.increment(5000)
    with pytest.raises(exception.NoSuchMethodError) as refused:
        bank.refused()
    assert isinstance(refused.value, AttributeError)


def test_a_proxy_has_no_attributes_of_its_own(bank: Bank) -> None:
    with pytest.raises(AttributeError):
        bank.value = 3


def test_repr_needs_no_replica(replica: ScriptedReplica) -> None:
    with concoord.proxy_for(Bank)(replica.address) as bank:
        assert repr(bank) == f"<Bank at {replica.address}>"
    assert repr(bank) == f"<Bank at {replica.address}>"
    with pytest.raises(exception.ClosedError):
        bank.getvalue()


def test_a_proxy_of_another_class_is_refused(replica: ScriptedReplica) -> None:
    with pytest.raises(exception.RefusedError, match=r"hosts test_proxy.Bank"):
        Counter(replica.address, timeout=5)


def test_connect_makes_a_proxy_of_what_the_replica_says(replica: ScriptedReplica) -> None:
    bank = concoord.connect(replica.address)
    assert type(bank).__name__ == "Bank"
    assert bank.increment(1) == 1
    assert bank.keep("k", 2, limit=3) == 1
    assert bank.sort() == [True, False]
    assert str(inspect.signature(type(bank).getvalue)) == "(self) -> 'int'"
    with pytest.raises(TypeError, match=r"Bank.getvalue\(\) takes 1 positional argument"):
        bank.getvalue(1)
    concoord.close(bank)


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("a): pass\nimport os\ndef b(", []),
        ("f", [Parameter("x=exit()", 1, None, "")]),
        ("class", []),
        ("f", [Parameter("x", 1, None, ""), Parameter("x", 1, None, "")]),
    ],
)
def test_a_replica_that_says_nonsense_is_not_run(method: str, parameters: list) -> None:
    hostile = Interface("m.C", "", [Method(method, "", parameters, "", False)])
    with (
        ScriptedReplica(Bank, hostile) as replica,
        pytest.raises(exception.ConcoordError, match="no proxy can be made"),
    ):
        concoord.connect(replica.address)


def test_source_that_a_replica_tells_can_only_be_read() -> None:
    parameters = [
        Parameter("a", 1, "__import__('os')", "exec('x')"),
        Parameter("b", 1, "[1, {2}]", "dict[str, int] | None"),
    ]
    doc = 'ends in """; import os \\'
    hostile = Interface("m.C", doc, [Method("f", doc + '"', parameters, "print()", False)])
    with ScriptedReplica(Bank, hostile) as replica:
        proxy = concoord.connect(replica.address)
    function = type(proxy).f
    expected = "(self, a=Ellipsis, b: 'dict[str, int] | None' = [1, {2}])"
    assert str(inspect.signature(function)) == expected
    assert (function.__doc__, type(proxy).__doc__) == (doc + '"', doc)
    concoord.close(proxy)


def test_who_is_not_there_is_named() -> None:
    with pytest.raises(exception.UnreachableError, match=r"127.0.0.1:1: ") as raised:
        Counter("127.0.0.1:1", timeout=0.5)
    assert isinstance(raised.value, ConnectionError)
    with pytest.raises(exception.BootstrapError) as wrong:
        Counter("", timeout=0.5)
    assert isinstance(wrong.value, ValueError)
    with pytest.raises(ValueError, match="timeout"):
        Counter("127.0.0.1:1", timeout=0)


def test_a_call_without_reply_times_out(replica: ScriptedReplica) -> None:
    with concoord.proxy_for(Bank)(replica.address, timeout=0.3) as bank:
        with pytest.raises(exception.CallTimeoutError, match="not known") as raised:
            bank.hang()
        assert isinstance(raised.value, TimeoutError)


def test_ctrl_c_ends_a_wait_at_once(bank: Bank, replica: ScriptedReplica) -> None:
    def interrupt() -> None:
        replica.hanging.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    # A shell that starts the tests in the background has SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        bank.hang()
    thread.join()
    signal.signal(signal.SIGINT, before)
    assert time.monotonic() - start < 5
    assert bank.increment() == 10


def test_threads_share_a_proxy(bank: Bank) -> None:
    def count() -> None:
        for _ in range(20):
            bank.increment(1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bank.getvalue() == 80


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_a_session_of_its_own(bank: Bank, replica: ScriptedReplica) -> None:
    bank.increment()
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if bank.increment() == 20 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert bank.increment() == 30
    assert len(replica.sessions) == 2


def test_a_proxy_travels_as_what_it_connects_to() -> None:
    with ScriptedReplica(tencounter.TenCounter) as replica:
        replica.interface = replica.interface._replace(name="concoord.object.counter.Counter")
        with Counter(replica.address) as counter, pickle.loads(pickle.dumps(counter)) as twin:
            assert repr(twin) == repr(counter)
