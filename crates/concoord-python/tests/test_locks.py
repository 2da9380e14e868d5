"""The locks and their like as local objects: what does not wait, beside Python's own classes."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from concoord.object.barrier import Barrier
from concoord.object.boundedsemaphore import BoundedSemaphore
from concoord.object.condition import Condition
from concoord.object.countdownlatch import CountDownLatch
from concoord.object.doublebarrier import DoubleBarrier
from concoord.object.election import Election
from concoord.object.event import Event
from concoord.object.lock import Lock
from concoord.object.readwritelock import ReadWriteLock
from concoord.object.rlock import RLock
from concoord.object.semaphore import Semaphore


def outcome(something: Any, method: str, *args: Any, **kwargs: Any) -> Any:
    """Tell what a call comes to; a fencing token is as good as `True`."""
    try:
        result = getattr(something, method)(*args, **kwargs)
    except Exception as error:
        return type(error), str(error)
    return True if method == "acquire" and result else result


SCRIPTS: list[tuple[Any, Any, list[tuple[Any, ...]]]] = [
    (
        Lock(),
        threading.Lock(),
        [
            ("release",),
            ("acquire",),
            ("locked",),
            ("acquire", False),
            ("acquire", False, 1),
            ("acquire", True, -2),
            ("acquire", True, 0),
            ("release",),
            ("locked",),
        ],
    ),
    (
        RLock(),
        threading.RLock(),
        [
            ("release",),
            ("acquire",),
            ("acquire", False),
            ("acquire", False, 1),
            ("release",),
            ("release",),
            ("release",),
        ],
    ),
    (
        Semaphore(2),
        threading.Semaphore(2),
        [
            ("acquire",),
            ("acquire", True, 0),
            ("acquire", False),
            ("acquire", True, -3),
            ("acquire", False, 0),
            ("release", 0),
            ("release", 5),
            ("acquire",),
        ],
    ),
    (
        BoundedSemaphore(1),
        threading.BoundedSemaphore(1),
        [("release",), ("acquire",), ("release", 2), ("release",), ("release",)],
    ),
    (
        Event(),
        threading.Event(),
        [("is_set",), ("wait", 0), ("wait", -1), ("set",), ("wait",), ("clear",), ("is_set",)],
    ),
    (
        Condition(),
        threading.Condition(),
        [
            ("wait",),
            ("notify",),
            ("notify_all",),
            ("release",),
            ("acquire",),
            ("acquire",),
            ("wait", 0),
            ("notify", 3),
            ("release",),
            ("release",),
            ("release",),
        ],
    ),
    (
        Barrier(2),
        threading.Barrier(2),
        [("wait", 0), ("wait",), ("reset",), ("abort",), ("wait", 1), ("reset",)],
    ),
]


@pytest.mark.parametrize(("ours", "pythons", "calls"), SCRIPTS, ids=lambda it: type(it).__name__)
def test_calls_come_to_what_they_come_to_in_python(
    ours: Any, pythons: Any, calls: list[tuple[Any, ...]]
) -> None:
    for call in calls:
        assert outcome(ours, *call) == outcome(pythons, *call), call


@pytest.mark.parametrize(
    ("ours", "pythons"),
    [(Semaphore, threading.Semaphore), (BoundedSemaphore, threading.BoundedSemaphore)],
)
def test_a_negative_value_is_an_error_in_pythons_words(ours: Any, pythons: Any) -> None:
    errors = []
    for made in ours, pythons:
        with pytest.raises(ValueError, match="initial value") as raised:
            made(-1)
        errors.append(str(raised.value))
    assert errors[0] == errors[1]


def test_permits_are_got_or_not() -> None:
    semaphore = Semaphore(count=3)
    assert [semaphore.acquire(blocking=False) for _ in range(4)] == [True, True, True, False]
    assert str(semaphore) == "<DSemaphore count=0>"


def test_a_barrier_of_one_is_passed_at_once() -> None:
    barrier = Barrier(count=1)
    assert (barrier.wait(), barrier.parties, barrier.n_waiting) == (0, 1, 0)
    barrier.abort()
    assert barrier.broken


def test_threads_wait_for_each_other() -> None:
    lock = Lock()
    lock.acquire()
    got = []
    other = threading.Thread(target=lambda: got.append(lock.acquire(timeout=30)))
    other.start()
    assert not lock.acquire(timeout=0.01)
    lock.release()
    other.join()
    assert got == [True]
    assert lock.locked()


def test_a_writer_may_read_and_a_reader_may_not_write() -> None:
    lock = ReadWriteLock()
    assert lock.acquire_write()
    assert lock.acquire_read()
    lock.release_write()
    with pytest.raises(RuntimeError, match="release it first"):
        lock.acquire_write()
    lock.release_read()
    lock.acquire_write()
    assert lock.downgrade()
    assert (lock.readers(), lock.locked()) == (1, False)


def test_a_latch_a_double_barrier_and_an_election_alone() -> None:
    latch = CountDownLatch(2)
    assert [latch.count_down(), latch.count_down(), latch.wait()] == [1, 0, True]
    both = DoubleBarrier(1)
    assert (both.enter(), both.n_within(), both.leave()) == (True, 1, True)
    election = Election()
    assert election.campaign("me")
    assert (election.leader(), election.epoch()) == ("me", 1)
    election.resign()
    assert election.leader() is None
