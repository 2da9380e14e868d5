"""Objects whose calls wait: for others, for time, and until their client is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from frames import CANCELLED, Parked, Raised, Refused, Whose, Woken, WorkerProcess, restore

from concoord.exception import ObjectRemovedError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOST, CANCEL, REMOVE, WAKE = (
    f"__concoord{what}__" for what in ("lost", "cancel", "remove", "wake")
)


@pytest.fixture
def locks() -> Iterator[WorkerProcess]:
    with WorkerProcess("waiting.Locks", "waiting.Buffer") as worker:
        yield worker


def by(session: int, method: str, *args: object, sequence: int = 0, **of: str):
    return method, args, {}, Whose(session, sequence, **of)


def test_the_command_is_nothing_that_clients_see(locks: WorkerProcess) -> None:
    _, [(_, _, methods), _], _ = locks.loaded
    parameters = {method[0]: [each[0] for each in method[2]] for method in methods}
    assert parameters["acquire"] == ["which"]
    assert parameters["meet"] == []
    assert locks.apply(("who", (), {}, Whose(7, 3, 2))) == [([7, 2], "who")]


@pytest.mark.parametrize("which", ["lock", "rlock", "bounded", "condition"])
def test_who_waits_gets_it_in_turn(locks: WorkerProcess, which: str) -> None:
    taken = locks.apply(by(1, "acquire", which), by(2, "acquire", which), by(3, "acquire", which))
    assert taken == [True, Parked(), Parked()]
    assert locks.apply(by(1, "release", which)) == [Woken(2, 2, True), None]
    assert locks.apply(by(2, "release", which)) == [Woken(3, 3, True), None]
    assert locks.apply(by(3, "release", which)) == [None]


def test_their_errors_are_those_of_the_original(locks: WorkerProcess) -> None:
    for which, error, words in [
        ("lock", RuntimeError, "cannot release un-acquired lock"),
        ("rlock", RuntimeError, "cannot release un-acquired lock"),
        ("bounded", ValueError, "Semaphore released too many times"),
        ("condition", RuntimeError, "cannot release un-acquired lock"),
    ]:
        (outcome,) = locks.apply(by(1, "release", which))
        assert (type(outcome.error), str(outcome.error)) == (error, words)
    (outcome,) = locks.apply(by(1, "wait"))
    assert str(outcome.error) == "cannot wait on un-acquired lock"


def test_an_rlock_is_of_a_thread_and_a_lock_of_nobody(locks: WorkerProcess) -> None:
    assert locks.apply(by(1, "acquire", "rlock"), by(1, "acquire", "rlock")) == [True, True]
    (outcome,) = locks.apply(("release", ("rlock",), {}, Whose(1, 50, thread=1)))
    assert isinstance(outcome, Raised)
    assert locks.apply(by(2, "acquire", "rlock"), by(1, "release", "rlock")) == [Parked(), None]
    assert locks.apply(by(1, "release", "rlock")) == [Woken(2, 4, True), None]
    assert locks.apply(by(1, "acquire", "lock"), by(2, "release", "lock")) == [True, None]


def test_a_semaphore_says_how_many_are_left(locks: WorkerProcess) -> None:
    taken = [by(session, "acquire", "semaphore") for session in (1, 2, 3)]
    assert locks.apply(*taken) == [True, True, Parked()]
    assert locks.call("__repr__") == "<DLock unlocked> <DSemaphore count=0>"


def test_a_barrier_lets_all_go_at_once_and_again(locks: WorkerProcess) -> None:
    for start in (0, 3):
        arrived = locks.apply(by(1, "meet"), by(2, "meet"), by(3, "meet"))
        woken = [Woken(session, start + session, True) for session in (1, 2)]
        assert arrived == [Parked(), Parked(), *woken, True]


def test_who_is_notified_has_the_lock_again(locks: WorkerProcess) -> None:
    waits = [step for session in (1, 2) for step in (
        by(session, "acquire", "condition"), by(session, "wait"),
    )]  # fmt: skip
    assert locks.apply(*waits) == [True, Parked(), True, Parked()]
    told = locks.apply(by(3, "acquire", "condition"), by(3, "notifyAll"), by(3, "notify"))
    assert told == [True, None, None]
    assert locks.apply(by(3, "release", "condition")) == [Woken(1, 2, True), None]
    assert locks.apply(by(1, "release", "condition")) == [Woken(2, 4, True), None]


def test_who_is_lost_has_and_gets_nothing(locks: WorkerProcess) -> None:
    for which in ("lock", "rlock", "bounded", "semaphore"):
        locks.apply(*(by(session, "acquire", which) for session in (1, 1, 2, 3, 4)))
    lost = locks.apply(by(2, LOST), by(1, LOST))
    woken = [each.session for each in lost if isinstance(each, Woken)]
    # The reentrant lock and the two permits of the semaphore were both of the first session.
    assert sorted(woken) == [3, 3, 3, 3, 4]
    assert locks.read("who_was_lost") == [2, 1]
    assert locks.apply(by(3, "release", "lock"))[0] == Woken(4, 5, True)


def test_a_call_that_is_given_up_never_gets_it(locks: WorkerProcess) -> None:
    locks.apply(*(by(session, "acquire", "lock") for session in (1, 2, 3)))
    refused = Refused(CANCELLED, b"")
    assert locks.apply(by(2, CANCEL, sequence=2)) == [Woken(2, 2, refused), None]
    assert locks.apply(by(2, CANCEL, sequence=2)) == [None]
    assert locks.apply(by(1, "release", "lock")) == [Woken(3, 3, True), None]


def test_a_new_worker_goes_on_with_those_who_wait(locks: WorkerProcess) -> None:
    locks.apply(*(by(session, "acquire", "lock") for session in (1, 2, 3)))
    locks.apply(by(4, "get", of="waiting.Buffer", name="b"))
    with WorkerProcess("waiting.Locks", "waiting.Buffer") as other:
        assert other.ask(restore(locks.snapshot())) == ("restored", None)
        assert other.snapshot() == locks.snapshot()
        for worker in (locks, other):
            assert worker.apply(by(1, LOST)) == [Woken(2, 2, True), None]
            put = by(5, "put", "x", of="waiting.Buffer", name="b")
            assert worker.apply(put) == [Woken(4, 4, "x"), None]
        assert other.snapshot() == locks.snapshot()


def test_values_travel_to_those_who_wait(locks: WorkerProcess) -> None:
    def buffer(session: int, method: str, *args: object):
        return by(session, method, *args, of="waiting.Buffer")

    assert locks.apply(buffer(1, "get"), buffer(2, "put", "a")) == [
        Parked(), Woken(1, 1, "a"), None,
    ]  # fmt: skip
    puts = [buffer(3, "put", item) for item in "bcd"]
    assert locks.apply(*puts) == [None, None, Parked()]
    assert locks.apply(buffer(4, "get")) == [Woken(3, 5, None), "b"]
    assert locks.apply(buffer(4, "get"), buffer(4, "get"), buffer(4, "get")) == ["c", "d", Parked()]
    woken, ended = locks.apply(buffer(5, "fail"))
    assert isinstance(woken.outcome.error, KeyError)
    assert ended == 1


def test_objects_are_made_when_they_are_called_and_removed(locks: WorkerProcess) -> None:
    def named(method: str, name: str, *args: object):
        return by(1, method, *args, of="waiting.Buffer", name=name)

    assert locks.apply(named("put", "a", 1), named("put", "b", 2), named("get", "b")) == [
        None, None, 2,
    ]  # fmt: skip
    parked, woken, nothing = locks.apply(named("get", "b"), named(REMOVE, "b"))
    assert (parked, nothing) == (Parked(), None)
    assert isinstance(woken.outcome.error, ObjectRemovedError)
    assert locks.apply(named("get", "a")) == [1]


def test_timers_ring_by_the_clock_of_entries() -> None:
    with WorkerProcess("waiting.Timed") as worker:
        (number,) = worker.apply(("begin", (2,)), clock_ms=1000)
        assert worker.wake_at == 3000
        assert worker.apply(("count",), clock_ms=2999) == [0]
        assert worker.apply(("count",), clock_ms=3000) == [1]
        assert worker.wake_at == 5000
        # What comes late comes once: the next is counted from there.
        assert worker.apply(by(0, WAKE), clock_ms=20_000) == [None]
        assert worker.read("count") == 2
        assert worker.wake_at == 22_000
        assert worker.apply(("stop", (number,)), clock_ms=20_000) == [False]


def test_a_wait_ends_by_a_timer_and_never_twice() -> None:
    with WorkerProcess("waiting.Timed") as worker:
        waits = [("wait", (seconds,), {}, Whose(seconds)) for seconds in (1, 5)]
        assert worker.apply(*waits, clock_ms=0) == [Parked(), Parked()]
        late, nothing = worker.apply(by(0, WAKE), clock_ms=1000)
        assert isinstance(late.outcome.error, TimeoutError)
        assert (late.session, nothing) == (1, None)
        assert worker.apply(("wake_all",), clock_ms=2000) == [Woken(5, 2, "woken"), None]
        assert worker.wake_at is None
        assert worker.apply(by(0, WAKE), clock_ms=9000) == [None]


def test_what_fails_by_itself_stops_nobody() -> None:
    with WorkerProcess("waiting.Timed") as worker:
        worker.apply(("broken",), clock_ms=0)
        assert worker.apply(("count",), clock_ms=1000) == [0]
