"""Ready-made objects that Python has none of, beside models as plain as can be."""

from __future__ import annotations

import bisect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concoord.object.atomiclong import AtomicLong
from concoord.object.atomicreference import AtomicReference
from concoord.object.bank import Bank
from concoord.object.binarytree import BinaryTree
from concoord.object.countdownlatch import CountDownLatch
from concoord.object.counter import Counter
from concoord.object.election import Election
from concoord.object.jobmanager import JobManager
from concoord.object.lockingqueue import LockingQueue
from concoord.object.log import Log
from concoord.object.membership import Membership
from concoord.object.nameservercoord import NameserverCoord
from concoord.object.stack import Stack

small = st.integers(0, 3)


class Number:
    def __init__(self) -> None:
        self.value = 0

    def increment(self, by: int) -> None:
        self.value += by

    def decrement(self, by: int) -> None:
        self.value -= by

    def getvalue(self) -> int:
        return self.value

    def increment_and_get(self, by: int) -> int:
        self.value += by
        return self.value

    def get_and_decrement(self, by: int) -> int:
        self.value -= by
        return self.value + by

    def get_and_set(self, value: int) -> int:
        value, self.value = self.value, value
        return value

    def compare_and_set(self, expected: int, new: int) -> bool:
        same = self.value == expected
        self.value = new if same else self.value
        return same


class Reference:
    def __init__(self) -> None:
        self.value: Any = None

    def get(self) -> Any:
        return self.value

    def set(self, value: Any) -> None:
        self.value = value

    def get_and_set(self, value: Any) -> Any:
        value, self.value = self.value, value
        return value

    def compare_and_set(self, expected: Any, new: Any) -> bool:
        # In type as well: 1 is neither 1.0 nor True.
        same = (type(self.value), self.value) == (type(expected), expected)
        self.value = new if same else self.value
        return same


class Piled:
    def __init__(self) -> None:
        self.items: list[int] = []

    def push(self, item: int) -> None:
        self.items.append(item)

    def pop(self) -> int:
        return self.items.pop()

    def peek(self) -> int:
        return self.items[-1]

    def get_stack(self) -> list[int]:
        return list(self.items)

    def __len__(self) -> int:
        return len(self.items)


class Logged:
    def __init__(self) -> None:
        self.start, self.entries = 0, []  # type: int, list[int]

    def append(self, entry: int) -> int:
        self.entries.append(entry)
        return self.next() - 1

    def write(self, entry: int) -> int:
        self.start, self.entries = self.next(), []
        return self.append(entry)

    def read(self, start: int, limit: int) -> list[int]:
        start = max(start - self.start, 0)
        return self.entries[start : start + limit]

    def trim(self, before: int) -> int:
        gone = min(max(before - self.start, 0), len(self.entries))
        self.start, self.entries = self.start + gone, self.entries[gone:]
        return gone

    def first(self) -> int:
        return self.start

    def next(self) -> int:
        return self.start + len(self.entries)


class Members:
    def __init__(self) -> None:
        self.all: list[int] = []

    def add(self, member: int) -> bool:
        new = member not in self.all
        self.all += [member] if new else []
        return new

    def remove(self, member: int) -> None:
        if member not in self.all:
            raise KeyError(member)
        self.all.remove(member)

    def members(self) -> list[int]:
        return list(self.all)


class Accounts:
    def __init__(self) -> None:
        self.all: dict[int, float] = {}

    def open(self, number: int) -> bool:
        new = number not in self.all
        self.all.setdefault(number, 0.0)
        return new

    def close(self, number: int) -> bool:
        del self.all[number]
        return True

    def deposit(self, number: int, amount: int) -> float:
        self.all[number] += amount
        return self.all[number]

    def debit(self, number: int, amount: int) -> float | bool:
        if self.all[number] < amount:
            return False
        self.all[number] -= amount
        return self.all[number]

    def balance(self, number: int) -> float:
        return self.all[number]


class Ordered:
    def __init__(self) -> None:
        self.all: list[int] = []

    def insert(self, data: int) -> None:
        bisect.insort(self.all, data)

    def find(self, data: int) -> bool:
        return data in self.all

    def get_values(self) -> list[int]:
        return list(self.all)

    def get_min(self) -> int:
        return min(self.all)

    def get_size(self) -> int:
        return len(self.all)


class Latch:
    def __init__(self) -> None:
        self.count = 0

    def try_set(self, count: int) -> bool:
        free = self.count == 0
        self.count = count if free else self.count
        return free

    def count_down(self, n: int) -> int:
        self.count = max(0, self.count - n)
        return self.count

    def getcount(self) -> int:
        return self.count

    def wait(self, timeout: int) -> bool:
        del timeout
        return self.count == 0


class Jobs:
    def __init__(self) -> None:
        self.all: dict[int, dict[str, int]] = {}

    def schedule(self, job: dict[str, int]) -> bool:
        new = job["id"] not in self.all
        self.all.setdefault(job["id"], dict(job))
        return new

    def deschedule(self, job: int) -> bool:
        del self.all[job]
        return True

    def update(self, job: int, key: str, value: int) -> Any:
        self.all[job][key] = value

    def list_jobs(self) -> list[dict[str, int]]:
        return list(self.all.values())


class Nodes:
    def __init__(self) -> None:
        self.all: dict[str, dict[int, list[str]]] = {}

    def addnodetosubdomain(self, subdomain: str, nodetype: int, node: str) -> None:
        nodes = self.all.setdefault(subdomain, {}).setdefault(nodetype, [])
        nodes += [] if node in nodes else [node]

    def getnodes(self, subdomain: str) -> dict[int, list[str]]:
        return self.all[subdomain]

    def getsubdomains(self) -> list[str]:
        return sorted(self.all)


class Led:
    def __init__(self) -> None:
        self.value: Any = None

    def campaign(self, value: int) -> bool:
        self.value = value
        return True

    def proclaim(self, value: int) -> None:
        if self.value is None:
            raise RuntimeError
        self.value = value

    def resign(self) -> None:
        if self.value is None:
            raise RuntimeError
        self.value = None

    def leader(self) -> Any:
        return self.value


def calls(*of: tuple[str, list[st.SearchStrategy[Any]]]) -> st.SearchStrategy[Any]:
    """Many calls of these methods, with such arguments."""
    each = [st.tuples(st.just(name), st.tuples(*arguments)) for name, arguments in of]
    return st.lists(st.one_of(each), max_size=30)


number = calls(
    ("increment", [small]),
    ("decrement", [small]),
    ("getvalue", []),
    ("increment_and_get", [small]),
    ("get_and_decrement", [small]),
    ("get_and_set", [small]),
    ("compare_and_set", [small, small]),
)
anything = st.sampled_from([None, 1, 1.0, True, "1", (1,), [1]])
job = st.fixed_dictionaries({"id": small, "state": small})
name = st.sampled_from("ab")

MODELS: dict[str, tuple[Any, Any, st.SearchStrategy[Any]]] = {
    "Counter": (Counter, Number, number),
    "AtomicLong": (AtomicLong, Number, number),
    "AtomicReference": (
        AtomicReference,
        Reference,
        calls(
            ("get", []),
            ("set", [anything]),
            ("get_and_set", [anything]),
            ("compare_and_set", [anything, anything]),
        ),
    ),
    "Stack": (
        Stack,
        Piled,
        calls(("push", [small]), ("pop", []), ("peek", []), ("get_stack", []), ("__len__", [])),
    ),
    "Log": (
        Log,
        Logged,
        calls(
            ("append", [small]),
            ("write", [small]),
            ("read", [small, small]),
            ("trim", [small]),
            ("first", []),
            ("next", []),
        ),
    ),
    "Membership": (
        Membership,
        Members,
        calls(("add", [small]), ("remove", [small]), ("members", [])),
    ),
    "Bank": (
        Bank,
        Accounts,
        calls(
            ("open", [small]),
            ("close", [small]),
            ("deposit", [small, small]),
            ("debit", [small, small]),
            ("balance", [small]),
        ),
    ),
    "BinaryTree": (
        BinaryTree,
        Ordered,
        calls(
            ("insert", [small]),
            ("find", [small]),
            ("get_values", []),
            ("get_min", []),
            ("get_size", []),
        ),
    ),
    "CountDownLatch": (
        CountDownLatch,
        Latch,
        calls(
            ("try_set", [small]),
            ("count_down", [st.integers(1, 3)]),
            ("getcount", []),
            ("wait", [st.just(0)]),
        ),
    ),
    "JobManager": (
        JobManager,
        Jobs,
        calls(
            ("schedule", [job]),
            ("deschedule", [small]),
            ("update", [small, st.just("state"), small]),
            ("list_jobs", []),
        ),
    ),
    "NameserverCoord": (
        NameserverCoord,
        Nodes,
        calls(
            ("addnodetosubdomain", [name, small, name]),
            ("getnodes", [name]),
            ("getsubdomains", []),
        ),
    ),
    "Election": (
        Election,
        Led,
        calls(("campaign", [small]), ("proclaim", [small]), ("resign", []), ("leader", [])),
    ),
}


def outcome(something: Any, method: str, args: tuple[Any, ...]) -> Any:
    """Tell what a call comes to: what it returns, or what it raises."""
    try:
        result = getattr(something, method)(*args)
    except Exception as error:
        return type(error)
    # A fencing token is as good as `True`.
    return type(result), result


@pytest.mark.parametrize("name", MODELS)
@given(data=st.data())
def test_it_does_what_its_model_does(name: str, data: st.DataObject) -> None:
    ours, model, made = MODELS[name]
    ours, model = ours(), model()
    for method, args in data.draw(made):
        assert outcome(ours, method, args) == outcome(model, method, args), method


class Leased:
    """A queue of items that are leased, each in its place until it is consumed."""

    def __init__(self) -> None:
        self.items: list[tuple[int, int]] = []
        self.leased: dict[int, tuple[int, int]] = {}
        self.put_so_far = 0

    def put(self, item: int) -> None:
        self.items.append((self.put_so_far, item))
        self.put_so_far += 1

    def get(self) -> tuple[int, int] | None:
        return self.items.pop(0) if self.items else None


@given(
    steps=st.lists(st.tuples(st.sampled_from(["put", "get", "consume", "release", "holds"]), small))
)
def test_a_locking_queue_keeps_each_item_in_its_place(steps: list[tuple[str, int]]) -> None:
    ours, model = LockingQueue(), Leased()
    tokens: list[int] = []
    for step, number in steps:
        if step == "put":
            ours.put(number)
            model.put(number)
        elif step == "get":
            got = model.get()
            if got is None:
                continue
            token, item = ours.get()
            assert item == got[1]
            assert not tokens or token > tokens[-1]
            tokens.append(token)
            model.leased[token] = got
        elif tokens:
            token = tokens[number % len(tokens)]
            is_held = token in model.leased
            assert getattr(ours, step)(token) is is_held
            if is_held and step != "holds":
                place = model.leased.pop(token)
                if step == "release":
                    bisect.insort(model.items, place)
        assert (ours.qsize(), len(ours)) == (len(model.items), len(model.items) + len(model.leased))
