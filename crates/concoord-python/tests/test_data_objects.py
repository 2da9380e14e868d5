"""The ready-made objects that hold data, as local classes."""

from __future__ import annotations

import copy
import datetime
import decimal
import pickle
import queue
import random
import time
from typing import Any

import pytest

from concoord.object.atomiclong import AtomicLong
from concoord.object.atomicreference import AtomicReference
from concoord.object.bank import Bank
from concoord.object.binarytree import BinaryTree
from concoord.object.delayqueue import DelayQueue
from concoord.object.jobmanager import JobManager
from concoord.object.lockingqueue import LockingQueue
from concoord.object.log import Log
from concoord.object.map import Map
from concoord.object.membership import Membership
from concoord.object.meshmembership import MeshMembership
from concoord.object.nameservercoord import NameserverCoord
from concoord.object.priorityqueue import PriorityQueue
from concoord.object.queue import Queue
from concoord.object.stack import Stack


def outcome(call: Any, *args: Any) -> Any:
    """What a call comes to: its result, or the class and arguments of its exception."""
    try:
        return call(*args)
    except Exception as exception:
        return (type(exception), exception.args)


@pytest.mark.parametrize(
    ("ours", "pythons"), [(Queue, queue.Queue), (PriorityQueue, queue.PriorityQueue)]
)
@pytest.mark.parametrize("maxsize", [0, 1, 3])
def test_a_queue_is_as_pythons(ours: Any, pythons: Any, maxsize: int) -> None:
    dice = random.Random(maxsize)
    one, other = ours(maxsize), pythons(maxsize)
    calls = [
        lambda it: it.put_nowait(item),
        lambda it: it.put(item, False),
        lambda it: it.put(item, timeout=0),
        lambda it: it.put(item, True, -1),
        lambda it: it.get_nowait(),
        lambda it: it.get(block=False),
        lambda it: it.get(True, 0),
        lambda it: it.get(timeout=-0.5),
        lambda it: it.task_done(),
        lambda it: (it.qsize(), it.empty(), it.full()),
    ]
    for _ in range(500):
        item = dice.choice([dice.randrange(9), dice.random(), True])
        call = dice.choice(calls)
        assert outcome(call, one) == outcome(call, other)


def test_a_priority_queue_sorts_as_python_does() -> None:
    def in_order(items: list[Any]) -> list[Any]:
        ours = PriorityQueue()
        for item in items:
            ours.put(item)
        return [ours.get() for _ in items]

    dice = random.Random(1)
    utc = datetime.timezone.utc
    east = datetime.timezone(datetime.timedelta(hours=2))
    for items in (
        [
            dice.choice([dice.randrange(-3, 3), dice.uniform(-3, 3), 2**70, -(2**70)])
            for _ in range(99)
        ],
        [decimal.Decimal(dice.randrange(-50, 50)).scaleb(dice.randrange(-3, 3)) for _ in range(99)],
        [(dice.randrange(3), dice.choice("abc"), [dice.random()]) for _ in range(99)],
        [
            datetime.datetime(2026, dice.randrange(1, 13), 1, tzinfo=dice.choice([utc, east]))
            + datetime.timedelta(microseconds=dice.randrange(10**11))
            for _ in range(99)
        ],
        [datetime.timedelta(seconds=dice.uniform(-1e6, 1e6)) for _ in range(99)],
        [datetime.date(2026, dice.randrange(1, 13), 1) for _ in range(99)],
        [dice.randbytes(dice.randrange(3)) for _ in range(99)],
    ):
        assert in_order(items) == sorted(items)
    words = "'<' not supported between instances of 'NoneType' and 'NoneType'"
    with pytest.raises(TypeError, match=words):
        in_order([None, None])


def test_a_map_is_as_a_dict() -> None:
    dice = random.Random(2)
    ours, other = Map(), {}
    keys = [0, 1, 1.0, True, False, -0.0, 2**70, 2.0**70, "1", b"1", (1, True), (1.0, 1), None]
    keys += [frozenset({1}), frozenset({True}), complex(1, 0), datetime.date(2026, 1, 1)]
    calls = [
        lambda it: it.get(key),
        lambda it: it.get(key, 5),
        lambda it: it[key],
        lambda it: key in it,
        lambda it: it.pop(key),
        lambda it: it.pop(key, 7),
        lambda it: it.setdefault(key, value),
        lambda it: it.update({key: value}),
        lambda it: len(it),
        lambda it: list(it.keys()),
        lambda it: list(it.values()),
        lambda it: list(it.items()),
        lambda it: [] in it,
    ]
    for _ in range(2000):
        key, value = dice.choice(keys), dice.randrange(100)
        call = dice.choice(calls)
        assert repr(outcome(call, ours)) == repr(outcome(call, other))
    assert repr(ours.items()) == repr(list(other.items()))


def test_a_str_is_as_pythons() -> None:
    values: list[Any] = [
        0.1,
        1e16,
        -1e-5,
        1e22,
        5e-324,
        float("inf"),
        "it's",
        "a\"'\n",
        b"\0'",
        (1,),
        (),
    ]
    values += [{"a": [None, True]}, set(), {1}, frozenset(), -(2**70)]
    stack = Stack()
    for value in values:
        stack.append(value)
    assert str(stack) == str(values)
    assert stack.get_stack() == values
    assert [stack.pop() for _ in values] == values[::-1]
    with pytest.raises(IndexError, match="empty"):
        stack.pop()


def test_what_is_over_is_not_seen_by_a_call() -> None:
    table, delayed = Map(), DelayQueue()
    table.put("brief", 1, ttl=0.001)
    table.put("long", 2, ttl=3600)
    delayed.put("later", delay=3600)
    delayed.put("soon", delay=0.001)
    copies = [copy.deepcopy(table), pickle.loads(pickle.dumps(table)), table]
    end = time.monotonic() + 0.01
    while time.monotonic() < end:
        pass
    assert [it.keys() for it in copies] == [["long"]] * 3
    assert delayed.get(block=False) == "soon"
    with pytest.raises(queue.Empty):
        delayed.get(block=False)


def test_a_copy_goes_on_with_the_same_tokens() -> None:
    leases = LockingQueue()
    leases.put_all([1, 2])
    first, item = leases.get()
    twin = pickle.loads(pickle.dumps(leases))
    assert (item, leases.get(), len(leases)) == (1, twin.get(), 2)
    assert leases.release(first)
    assert not leases.ack(first)


def test_the_others_do_what_their_names_say() -> None:
    long = AtomicLong(5)
    assert (long.increment_and_get(), long.get_and_add(2), long.get()) == (6, 6, 8)
    reference = AtomicReference({"a": 1})
    assert reference.compare_and_set({"a": 1}, (1, 2))
    assert not reference.compare_and_set([1, 2], None)
    assert reference.get() == (1, 2)
    log = Log()
    assert [log.append(entry) for entry in "abc"] == [0, 1, 2]
    assert (log.read(), log.read(1, limit=1), len(log)) == (["a", "b", "c"], ["b"], 3)
    members = Membership()
    assert members.add("a")
    assert members.join("b")
    assert ("a" in members, str(members), members.members()) == (True, "['a', 'b']", ["a", "b"])
    with pytest.raises(KeyError) as raised:
        members.remove("c")
    assert raised.value.args == ("c",)
    mesh = MeshMembership()
    mesh.add_group("g", 1)
    assert mesh.approve_join("g", "n", 0) == (True, 1)
    assert mesh.wait("g")
    jobs = JobManager()
    jobs.schedule({"id": 1, "name": "build"})
    jobs.update(1, "time", 5)
    assert jobs.list_jobs() == [{"id": 1, "name": "build", "time": 5}]
    names = NameserverCoord()
    names.addnodetosubdomain("bank", 1, "10.0.0.1:14000")
    assert names.getnodes("bank") == {1: ["10.0.0.1:14000"]}
    bank = Bank()
    assert bank.open(7)
    assert (bank.deposit(7, 10), bank.debit(7, 50), bank.debit(7, 5)) == (10.0, False, 5.0)
    tree = BinaryTree()
    for data in (2, 1, 3):
        tree.insert(data)
    assert (tree.get_min(), tree.get_max(), tree.get_depth(), 2 in tree) == (1, 3, 2, True)
