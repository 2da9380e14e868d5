"""Each ready-made object while leaders die: it answers as the one in this process does.

The object in this process runs the same code alone, and is itself compared with Python's own or
with a model; what is left to show is that no call is lost, made twice or forgotten while it waits.
"""

from __future__ import annotations

import importlib
import random
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from concoord import Session
from concoord._concoord import stock_interface
from concoord._interface import told
from concoord.testing import Cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

    from concoord.testing import Replica

CALLS = 60
CALLERS = 3
SEED = 20_120_522

Call = tuple[Any, ...]


class Leases:
    """Stands for the token of what a caller was last leased."""


LEASE = Leases()


def small(dice: Random) -> int:
    return dice.randrange(4)


def key(dice: Random) -> str:
    return dice.choice("abc")


def pick(*calls: Callable[[Random], Call] | Call) -> Callable[[Random], Call]:
    """Choose one of these calls."""

    def one(dice: Random) -> Call:
        call = dice.choice(calls)
        return call(dice) if callable(call) else call

    return one


NUMBER = pick(
    ("increment",),
    ("decrement",),
    lambda dice: ("increment_and_get", small(dice)),
    lambda dice: ("get_and_add", small(dice)),
    lambda dice: ("get_and_set", small(dice)),
    lambda dice: ("compare_and_set", small(dice), small(dice)),
    ("getvalue",),
)
QUEUE = pick(
    lambda dice: ("put", small(dice), False),
    lambda dice: ("put_nowait", small(dice)),
    ("get", False),
    ("get_nowait",),
    ("task_done",),
    ("qsize",),
    ("full",),
)
LOCK = pick(("acquire", False), ("acquire", True, 0), ("release",), ("locked",))
PERMITS = pick(
    ("acquire", False),
    ("acquire", True, 0),
    ("release",),
    lambda dice: ("release", small(dice)),
    ("getvalue",),
)

OBJECTS: dict[str, tuple[Call, Callable[[Random], Call]]] = {
    "Counter": ((), NUMBER),
    "AtomicLong": ((7,), NUMBER),
    "AtomicReference": (
        (),
        pick(
            lambda dice: ("set", key(dice)),
            lambda dice: ("get_and_set", key(dice)),
            lambda dice: ("compare_and_set", key(dice), key(dice)),
            ("get",),
        ),
    ),
    "Bank": (
        (),
        pick(
            lambda dice: ("open", small(dice)),
            lambda dice: ("close", small(dice)),
            lambda dice: ("deposit", small(dice), 10),
            lambda dice: ("debit", small(dice), 3),
            lambda dice: ("balance", small(dice)),
        ),
    ),
    "Barrier": ((2,), pick(("wait", 0), ("reset",), ("abort",))),
    "BinaryTree": (
        (),
        pick(
            lambda dice: ("insert", small(dice)),
            lambda dice: ("delete", small(dice)),
            lambda dice: ("find", small(dice)),
            ("get_values",),
            ("get_depth",),
        ),
    ),
    "BoundedSemaphore": ((2,), PERMITS),
    "Condition": (
        (),
        pick(("acquire", False), ("release",), ("notify",), ("wait", 0), ("locked",)),
    ),
    "CountDownLatch": (
        (3,),
        pick(
            lambda dice: ("try_set", small(dice)),
            ("count_down",),
            ("wait", 0),
            ("getcount",),
        ),
    ),
    "DelayQueue": (
        (),
        pick(
            lambda dice: ("put", small(dice)),
            lambda dice: ("put", small(dice), 1_000_000),
            ("get", False),
            ("task_done",),
            ("qsize",),
        ),
    ),
    "DoubleBarrier": ((2,), pick(("enter", 0), ("leave", 0), ("n_within",))),
    "Election": (
        (),
        pick(
            lambda dice: ("campaign", key(dice), 0),
            lambda dice: ("proclaim", key(dice)),
            ("resign",),
            ("leader",),
        ),
    ),
    "Event": ((), pick(("set",), ("clear",), ("wait", 0), ("is_set",))),
    "JobManager": (
        (),
        pick(
            lambda dice: ("schedule", key(dice)),
            lambda dice: ("deschedule", key(dice)),
            lambda dice: ("update", key(dice), "state", small(dice)),
            ("list_jobs",),
        ),
    ),
    "Lock": ((), LOCK),
    "LockingQueue": (
        (),
        pick(
            lambda dice: ("put", small(dice)),
            ("put_all", [1, 2]),
            ("get", False),
            ("ack", LEASE),
            ("release", LEASE),
            ("holds", LEASE),
            ("qsize",),
        ),
    ),
    "Log": (
        (),
        pick(
            lambda dice: ("append", key(dice)),
            lambda dice: ("write", key(dice)),
            lambda dice: ("trim", small(dice)),
            ("first",),
            ("next",),
            lambda dice: ("read", small(dice), 5),
        ),
    ),
    "Map": (
        (),
        pick(
            lambda dice: ("put", key(dice), small(dice)),
            lambda dice: ("put_if_absent", key(dice), small(dice)),
            lambda dice: ("compare_and_set", key(dice), small(dice), small(dice)),
            lambda dice: ("pop", key(dice), None),
            lambda dice: ("remove", key(dice)),
            ("items",),
            ("clear",),
        ),
    ),
    "Membership": (
        (),
        pick(
            lambda dice: ("add", key(dice)),
            lambda dice: ("join", key(dice)),
            lambda dice: ("leave", key(dice)),
            ("members",),
        ),
    ),
    "MeshMembership": (
        (),
        pick(
            lambda dice: ("add_group", key(dice), 2),
            lambda dice: ("approve_join", key(dice), small(dice), small(dice)),
            lambda dice: ("leave", key(dice), small(dice)),
            lambda dice: ("notify_failure", key(dice), small(dice), small(dice)),
            lambda dice: ("wait", key(dice), 0),
            lambda dice: ("get_group_members", key(dice)),
            lambda dice: ("get_group_state", key(dice)),
        ),
    ),
    "NameserverCoord": (
        (),
        pick(
            lambda dice: ("addnodetosubdomain", key(dice), small(dice), f"10.0.0.{small(dice)}"),
            lambda dice: ("delnodefromsubdomain", key(dice), small(dice), f"10.0.0.{small(dice)}"),
            lambda dice: ("delsubdomain", key(dice)),
            lambda dice: ("getnodes", key(dice)),
            ("getsubdomains",),
        ),
    ),
    "PriorityQueue": ((3,), QUEUE),
    "Queue": ((3,), QUEUE),
    "ReadWriteLock": (
        (),
        pick(
            ("acquire_read", False),
            ("acquire_write", True, 0),
            ("release_read",),
            ("release_write",),
            ("downgrade",),
            ("readers",),
        ),
    ),
    "RLock": ((), LOCK),
    "Semaphore": ((2,), PERMITS),
    "Stack": (
        (),
        pick(lambda dice: ("push", small(dice)), ("pop",), ("peek",), ("get_stack",)),
    ),
}

GETS = {"acquire", "acquire_read", "acquire_write", "campaign", "downgrade"}
"""What a token comes of, which is as good as `True`."""


def class_of(kind: str, name: str) -> Any:
    return getattr(importlib.import_module(f"concoord.{kind}.{name.lower()}"), name)


class Callers:
    """Callers of one object, each a thread of its own, with what each was leased last."""

    def __init__(self, something: Any) -> None:
        self._object = something
        self._threads = [ThreadPoolExecutor(1) for _ in range(CALLERS)]
        self._leases = [-1] * CALLERS

    def start(self, caller: int, method: str, *args: Any) -> Future[Any]:
        return self._threads[caller].submit(self._outcome, caller, method, args)

    def call(self, caller: int, method: str, *args: Any) -> Any:
        return self.start(caller, method, *args).result(60)

    def _outcome(self, caller: int, method: str, args: tuple[Any, ...]) -> Any:
        args = tuple(self._leases[caller] if arg is LEASE else arg for arg in args)
        try:
            result = getattr(self._object, method)(*args)
        except Exception as error:
            return type(error), str(error)
        if isinstance(result, tuple) and method == "get":
            self._leases[caller], result = result
        return result is not False if method in GETS else result

    def close(self) -> None:
        for thread in self._threads:
            thread.shutdown(wait=False, cancel_futures=True)


class Trouble:
    """A cluster whose leader is killed again and again, and comes back."""

    def __init__(self) -> None:
        self.cluster = Cluster(3)
        self.kills = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on)

    def _go_on(self) -> None:
        while not self._over.wait(0.3):
            self.kill_leader()

    def kill_leader(self) -> None:
        leader: Replica = self.cluster.leader
        leader.kill()
        self.kills += 1
        leader.restart()

    def __enter__(self) -> Trouble:
        self.cluster.__enter__()
        return self

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def __exit__(self, *_: object) -> None:
        self.end()
        self.cluster.__exit__(None, None, None)


@pytest.fixture(scope="module")
def trouble() -> Iterator[Trouble]:
    with Trouble() as trouble:
        trouble.begin()
        yield trouble


@pytest.fixture(scope="module")
def calm() -> Iterator[Trouble]:
    with Trouble() as trouble:
        yield trouble


@pytest.mark.parametrize("name", OBJECTS)
def test_it_answers_as_the_one_in_this_process_does(trouble: Trouble, name: str) -> None:
    made_with, calls = OBJECTS[name]
    session = Session(trouble.cluster.address)
    proxy = class_of("proxy", name)(session=session, name="under fire")
    proxy.__concoordinit__(*made_with)
    ours, theirs = Callers(proxy), Callers(class_of("object", name)(*made_with))
    dice = random.Random(SEED)
    seen = []
    kills = trouble.kills
    # At least one leader dies meanwhile.
    while len(seen) < CALLS or trouble.kills < kills + 2:
        caller, call = dice.randrange(CALLERS), calls(dice)
        seen.append((caller, *call))
        assert ours.call(caller, *call) == theirs.call(caller, *call), seen
        time.sleep(0.005)
    for each in ours, theirs:
        each.close()
    session.close()


def test_every_object_is_looked_at() -> None:
    names = {told(stock_interface(name)).name.rpartition(".")[2] for name in stock_names()}
    assert names == set(OBJECTS)


def stock_names() -> list[str]:
    import pkgutil

    import concoord.object

    found = []
    for module in pkgutil.iter_modules(concoord.object.__path__):
        (name,) = importlib.import_module(f"concoord.object.{module.name}").__all__
        found.append(f"concoord.object.{module.name}.{name}")
    return found


Step = tuple[Any, ...]

WAITS: list[tuple[str, Call, list[Step], Step, list[Step], Any]] = [
    ("Lock", (), [(0, "acquire")], (1, "acquire"), [(0, "release")], True),
    ("RLock", (), [(0, "acquire")], (1, "acquire"), [(0, "release")], True),
    (
        "ReadWriteLock",
        (),
        [(0, "acquire_write")],
        (1, "acquire_read"),
        [(0, "release_write")],
        True,
    ),
    ("Semaphore", (1,), [(0, "acquire")], (1, "acquire"), [(0, "release")], True),
    ("BoundedSemaphore", (1,), [(0, "acquire")], (1, "acquire"), [(0, "release")], True),
    ("Event", (), [], (1, "wait"), [(0, "set")], True),
    (
        "Condition",
        (),
        [(1, "acquire")],
        (1, "wait"),
        [(0, "acquire"), (0, "notify"), (0, "release")],
        True,
    ),
    ("Barrier", (2,), [], (1, "wait"), [(0, "wait")], 0),
    ("DoubleBarrier", (2,), [], (1, "enter"), [(0, "enter")], True),
    ("CountDownLatch", (1,), [], (1, "wait"), [(0, "count_down")], True),
    ("Queue", (), [], (1, "get"), [(0, "put", "x")], "x"),
    ("Queue", (1,), [(0, "put", "x")], (1, "put", "y"), [(0, "get")], None),
    ("Queue", (), [(0, "put", "x"), (0, "get")], (1, "join"), [(0, "task_done")], None),
    ("PriorityQueue", (), [], (1, "get"), [(0, "put", 3)], 3),
    ("DelayQueue", (), [], (1, "get"), [(0, "put", "x", 0.2)], "x"),
    ("LockingQueue", (), [], (1, "get"), [(0, "put", "x")], "x"),
    ("Election", (), [(0, "campaign", "a")], (1, "campaign", "b"), [(0, "resign")], True),
    (
        "MeshMembership",
        (),
        [(0, "add_group", "g", 2), (0, "approve_join", "g", "n", 0)],
        (1, "wait", "g"),
        [(0, "approve_join", "g", "m", 1)],
        True,
    ),
]


@pytest.mark.parametrize(
    ("name", "made_with", "before", "waits", "wakes", "gets"),
    WAITS,
    ids=[f"{name}.{waits[1]}" for name, _, _, waits, _, _ in WAITS],
)
def test_who_waits_outlives_the_leader(
    calm: Trouble,
    name: str,
    made_with: Call,
    before: list[Step],
    waits: Step,
    wakes: list[Step],
    gets: Any,
) -> None:
    session = Session(calm.cluster.address)
    proxy = class_of("proxy", name)(session=session, name=f"waits for {waits[1]} {made_with}")
    proxy.__concoordinit__(*made_with)
    callers = Callers(proxy)
    for step in before:
        callers.call(*step)
    waiting = callers.start(*waits)
    while proxy._client.call("__concoorddescribe__")["parked"] != 1:
        assert not waiting.done(), waiting.result()
        time.sleep(0.01)
    calm.kill_leader()
    assert not waiting.done()
    for step in wakes:
        callers.call(*step)
    assert waiting.result(60) == gets
    callers.close()
    session.close()
