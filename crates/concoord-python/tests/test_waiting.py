"""Objects whose calls wait: for others, for time, and until their client is gone."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING

import frames
import pytest
from frames import CANCELLED, Parked, Raised, Refused, Whose, Woken, WorkerProcess, restore

from concoord.exception import ObjectRemovedError

if TYPE_CHECKING:
    from collections.abc import Iterator

FRAME_BYTES_MAX = 16 << 20
"""What a replica takes in of a worker."""

LOST, CANCEL, REMOVE, WAKE, SKIPPED = (
    f"__concoord{what}__" for what in ("lost", "cancel", "remove", "wake", "skipped")
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


def test_whichever_thread_waits_can_be_given_up(locks: WorkerProcess) -> None:
    locks.apply(by(1, "acquire", "lock"))
    waits = ("acquire", ("lock",), {}, Whose(2, 9, thread=4))
    assert locks.apply(waits, by(3, "acquire", "lock")) == [Parked(), Parked()]
    refused = Refused(CANCELLED, b"")
    assert locks.apply(by(2, CANCEL, sequence=9)) == [Woken(2, 9, refused), None]
    assert locks.apply(by(1, "release", "lock")) == [Woken(3, 3, True), None]


def test_who_went_on_or_was_woken_otherwise_never_gets_it(locks: WorkerProcess) -> None:
    locks.apply(by(1, "acquire", "lock"))
    assert locks.apply(by(2, "wander"), by(3, "acquire_for", 1)) == ["went on", Parked()]
    assert locks.apply(by(4, "acquire", "lock")) == [Parked()]
    late, _ = locks.apply(by(0, WAKE), clock_ms=1000)
    assert (late.session, type(late.outcome.error)) == (3, TimeoutError)
    assert locks.apply(by(1, "release", "lock")) == [Woken(4, 4, True), None]
    assert locks.apply(by(4, "release", "lock")) == [None]
    assert locks.call("__repr__") == "<DLock unlocked> <DSemaphore count=2>"


def test_who_waits_at_a_condition_has_the_lock_again_as_often(locks: WorkerProcess) -> None:
    takes = [by(1, "acquire", "condition")] * 3
    assert locks.apply(*takes, by(1, "wait")) == [True, True, True, Parked()]
    told = locks.apply(
        by(2, "acquire", "condition"), by(2, "notify"), by(3, "acquire", "condition")
    )
    assert told == [True, None, Parked()]
    assert locks.apply(by(2, "release", "condition")) == [Woken(1, 4, True), None]
    release = by(1, "release", "condition")
    assert locks.apply(release, release) == [None, None], "it has it once more"
    assert locks.apply(release) == [Woken(3, 7, True), None]


def at_the_condition(locks: WorkerProcess, *sessions: int) -> None:
    for session in sessions:
        locks.apply(by(session, "acquire", "condition"), by(session, "wait"))


@pytest.mark.parametrize("how", [CANCEL, LOST])
@pytest.mark.parametrize("is_notified", [True, False])
def test_a_notification_of_who_is_gone_is_the_next_ones(
    locks: WorkerProcess, how: str, is_notified: bool
) -> None:
    at_the_condition(locks, 1, 2, 3)
    gone, notify = by(1, how, sequence=2), by(9, "notify")
    steps = [notify, gone] if is_notified else [gone, notify]
    locks.apply(by(9, "acquire", "condition"), *steps)
    woken, ended = locks.apply(by(9, "release", "condition"))
    assert (woken.session, ended) == (2, None)
    # One was notified, and one alone goes on.
    assert locks.apply(by(2, "release", "condition")) == [None]


def test_a_notification_of_who_gave_up_is_the_next_ones(locks: WorkerProcess) -> None:
    locks.apply(by(1, "acquire", "condition"), by(1, "wait_for", 1))
    at_the_condition(locks, 2)
    assert locks.apply(by(3, "acquire", "condition"), by(3, "notify")) == [True, None]
    late, _ = locks.apply(by(0, WAKE), clock_ms=1000)
    assert (late.session, type(late.outcome.error)) == (1, TimeoutError)
    woken, _ = locks.apply(by(3, "release", "condition"))
    assert woken.session == 2


def test_nobody_waits_for_an_object_that_is_made_anew(locks: WorkerProcess) -> None:
    locks.apply(by(1, "acquire", "lock"), by(2, "acquire", "lock"), by(9, "acquire", "bounded"))
    at_the_condition(locks, 3)
    (broken,) = locks.apply(by(4, "__concoordinit__", "too", "much"))
    assert isinstance(broken, Raised)
    *woken, ended = locks.apply(by(4, "__concoordinit__"))
    assert [each.session for each in woken] == [2, 3]
    assert {str(each.outcome.error) for each in woken} == {
        "it was initialised anew while the call waited"
    }
    assert ended is None
    assert locks.apply(by(5, "acquire", "lock"), by(6, "acquire", "lock")) == [True, Parked()]
    # What the old one's owners had is no business of the new one.
    assert locks.apply(by(1, LOST), by(9, LOST)) == [None, None]
    assert locks.apply(by(5, LOST))[0] == Woken(6, 9, True)
    assert owned(locks) == 1, "the lock that the last one has"


def owned(worker: WorkerProcess) -> int:
    """Tell how many locks and the like the state holds that have owners."""
    _, waits = pickle.loads(worker.snapshot())
    return len(waits._owned)


def test_what_an_object_owned_goes_with_it() -> None:
    with WorkerProcess("waiting.Timed", "waiting.Locks") as worker:

        def named(session: int, method: str, *args: object):
            return by(session, method, *args, of="waiting.Locks", name="a")

        worker.apply(named(1, "acquire", "lock"), named(2, "acquire", "lock"))
        assert owned(worker) == 1
        woken, _ = worker.apply(named(3, REMOVE))
        assert isinstance(woken.outcome.error, ObjectRemovedError)
        assert owned(worker) == 0
        assert worker.apply(named(4, "acquire", "lock")) == [True]
        assert worker.apply(by(1, LOST), named(5, "acquire", "lock")) == [None, Parked()]


def test_a_new_worker_goes_on_with_those_who_wait(locks: WorkerProcess) -> None:
    locks.apply(*(by(session, "acquire", "lock") for session in (1, 2, 3)))
    locks.apply(by(4, "get", of="waiting.Buffer", name="b"))
    with WorkerProcess("waiting.Locks", "waiting.Buffer") as other:
        assert other.ask(restore(locks.snapshot())) == ("restored", None)
        assert other.snapshot() == locks.snapshot()
        other.index = locks.index
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


def test_the_class_in_the_documents_does_what_they_say(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs/internals/workers.md").read_text()
    (source,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    imports = "from concoord import call_later, wake\nfrom concoord.exception import *\n"
    (tmp_path / "mailbox.py").write_text(imports + source)
    with WorkerProcess("mailbox.Mailbox", folder=tmp_path) as worker:
        takes = [by(session, "take") for session in (1, 2, 3, 4)]
        assert worker.apply(*takes, clock_ms=0) == [Parked()] * 4
        refused = Refused(CANCELLED, b"")
        assert worker.apply(by(1, CANCEL, sequence=1)) == [Woken(1, 1, refused), None]
        assert worker.apply(by(2, LOST)) == [None]
        assert worker.apply(by(5, "put", "a")) == [Woken(3, 3, "a"), None]
        late, _ = worker.apply(by(0, WAKE), clock_ms=10_000)
        assert (late.session, type(late.outcome.error)) == (4, TimeoutError)
        assert worker.apply(by(5, "put", "b"), by(5, "take")) == [None, "b"]
        assert worker.wake_at is None


def test_timers_ring_once_an_entry_however_it_is_cut() -> None:
    def entry(worker: WorkerProcess, *calls: object, clock_ms: int, whole: bool) -> None:
        if whole:
            return worker.apply(*calls, index=worker.index + 1, clock_ms=clock_ms)
        worker.index += 1
        parts = [worker.apply(call, index=worker.index, clock_ms=clock_ms) for call in calls]
        return [outcome for part in parts for outcome in part]

    with WorkerProcess("waiting.Timed") as one, WorkerProcess("waiting.Timed") as other:
        for clock_ms in (0, 0, 0, 7, 7):
            calls = [("at_once",), ("count",), ("count",)]
            cut = entry(other, *calls, clock_ms=clock_ms, whole=False)
            assert entry(one, *calls, clock_ms=clock_ms, whole=True) == cut
        assert one.snapshot() == other.snapshot()
        # One after the first entry, two after the next: what a timer sets is for a later entry.
        assert cut[-1] == 1 + 2 + 3 + 4
        assert one.wake_at == other.wake_at == 7


def test_a_new_worker_that_begins_within_an_entry_rings_nothing_twice() -> None:
    with WorkerProcess("waiting.Timed") as worker, WorkerProcess("waiting.Timed") as other:
        worker.apply(("at_once",))
        assert worker.apply(("count",)) == [1]
        assert other.ask(restore(worker.snapshot())) == ("restored", None)
        assert other.apply(("count",), index=worker.index) == [1]


def test_a_timer_waits_where_a_step_is_left_out_and_is_left_out_after_three(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with WorkerProcess("waiting.Timed") as worker:

        def entry(*methods: str):
            return worker.apply(*(by(0, method) for method in methods), clock_ms=1000)

        worker.apply(("broken_later",))
        # A pair of them is no suspicion: what came between did no harm.
        assert entry(SKIPPED, "count") == entry(SKIPPED, "count") == [None, 0]
        assert entry("count", SKIPPED) == [1, None]
        assert worker.wake_at == 101_000
        worker.apply(("broken_later",), clock_ms=1000)
        for _ in range(3):
            assert worker.apply(by(0, SKIPPED), ("count",), clock_ms=2000) == [None, 1]
        assert worker.apply(("count",), clock_ms=2000) == [2], "the other one rings"
    assert "leave, which was to be called later, kills workers" in capfd.readouterr().err


def test_a_timer_may_stop_another_that_is_due() -> None:
    with WorkerProcess("waiting.Timed") as worker:
        worker.apply(("rivals",))
        assert worker.apply(("count",), clock_ms=5000) == [0]
        assert worker.wake_at is None


def test_a_timer_is_of_the_object_that_asks_for_it() -> None:
    with WorkerProcess("waiting.Silent", "waiting.Refuses") as worker:
        named = Whose(of="", name="other")
        worker.apply(("later", ("named",), {}, named), ("later", ("first",)))
        both = worker.apply(("all", (), {}, named), ("all",), clock_ms=1000)
        assert both == [["named"], ["first"]]
        # To read what there is none of sets nothing, nor does what can't be made.
        asked = ("all", (), {}, Whose(name="unmade"))
        assert worker.ask(frames.read([(90, asked)]))[1] == [(90, [])]
        worker.number = 90
        (failed,) = worker.apply(by(1, "__concoordinit__", "exit", of="waiting.Refuses", name="r"))
        assert failed.error.name == "SystemExit"
        # That which failed was made before, without arguments, and its own timer alone is left.
        count = by(1, "count", of="waiting.Refuses", name="r")
        assert worker.apply(("all",), count, clock_ms=9000) == [["first", "as it was made"], 1]
        assert worker.wake_at is None


def test_what_can_not_be_made_is_not_there_and_can_be_made_otherwise() -> None:
    with WorkerProcess("waiting.Timed", "waiting.Refuses") as worker:

        def make(*args: object) -> object:
            made = by(1, "__concoordcreate__", *args, of="waiting.Refuses", name="r")
            return worker.apply(made)[0]

        assert make("exit").error.name == "SystemExit"
        assert worker.wake_at is None
        assert [make("well"), make("exit")] == [None, False]
        count = by(1, "count", of="waiting.Refuses", name="r")
        assert worker.apply(count, clock_ms=9000) == [1]


def test_whoever_leaves_ends_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with WorkerProcess("waiting.Timed", "waiting.Grumpy") as worker:
        worker.apply(("broken_later",), clock_ms=0)
        assert worker.apply(("count",), clock_ms=1000) == [1]
        (outcome,) = worker.apply(("leave",))
        assert outcome.error.name == "SystemExit"
        assert isinstance(worker.apply(("wake_nothing",))[0], Raised)
        grumpy = {"of": "waiting.Grumpy", "name": "g"}
        assert worker.apply(by(1, "wait", **grumpy)) == [Parked()]
        number = worker.number
        woken, nothing = worker.apply(by(1, CANCEL, sequence=number))
        assert (woken.outcome, nothing) == (Refused(CANCELLED, b""), None)
        assert worker.apply(by(1, LOST), ("count",)) == [None, 1]
    assert capfd.readouterr().err.count("\nSystemExit: ") == 2


def test_steps_that_no_client_called_for_draw_alike_and_at_the_time_of_their_entry() -> None:
    def drawn(worker: WorkerProcess, *others: object):
        grumpy = {"of": "waiting.Grumpy", "name": "g"}
        worker.apply(by(1, "wait", sequence=50, **grumpy), by(1, "later", **grumpy), index=1)
        steps = [by(1, CANCEL, sequence=50), by(1, LOST, sequence=51)]
        worker.apply(*others, *steps, index=2, time_ms=5000)
        (all_,) = worker.apply(by(2, "draws", sequence=1, **grumpy), index=3)
        return all_

    with WorkerProcess("waiting.Timed", "waiting.Grumpy") as one:
        numbers = drawn(one)
    with WorkerProcess("waiting.Timed", "waiting.Grumpy") as other:
        assert drawn(other, ("count",), ("count",)) == numbers, "whatever else is in the entry"
    assert len({number for number, _ in numbers}) == 3
    assert {time for _, time in numbers} == {5.0}


def test_many_that_are_woken_at_once_are_told_of_in_parts() -> None:
    count, size = 50_000, 500
    with WorkerProcess("waiting.Buffer") as worker:
        waits = [by(session, "get", sequence=1) for session in range(1, count + 1)]
        for start in range(0, count, 10_000):
            worker.apply(*waits[start : start + 10_000])
        # Over the limit of a frame, if it were one.
        assert count * size > FRAME_BYTES_MAX
        worker.send(frames.apply(9, 0, [(count + 1, by(1, "give_all", "x" * size, sequence=2))]))
        told = []
        while sum(told) < count + 1:
            body = worker.receive_frame()
            assert len(body) < FRAME_BYTES_MAX / 4
            reader = frames.Reader(body[:16])
            assert reader.varint() == 2, "it is of what is done"
            told.append(reader.varint())
        assert sum(told) == count + 1
