from __future__ import annotations

import datetime
import os
import signal
import socket
import struct

import frames
import pytest
from frames import Raised, Refused, Whose, WorkerProcess

from concoord.exception import NonDeterministicError, RemoteError


def test_it_says_what_the_class_offers(worker: WorkerProcess) -> None:
    kind, [(name, doc, methods)], runtime = worker.loaded
    assert (kind, name) == ("loaded", "tencounter.TenCounter")
    assert doc == "Counts in tens.\n\nAs the tutorial's own would."
    assert runtime.startswith("python 3.")
    offered = {method[0]: method for method in methods}
    assert list(offered)[:4] == ["__concoordinit__", "inherited", "increment", "getvalue"]
    assert not offered.keys() & {"_private", "made", "tens", "helper", "__init__", "__str__"}
    assert {"double", "close", "__len__", "__contains__", "__getitem__"} < offered.keys()
    assert [name for name, method in offered.items() if method[4]] == ["getvalue"]
    assert offered["increment"] == (
        "increment",
        "Add `by` and return the value.",
        [("by", 1, "10", "int"), ("note", 3, "None", "str | None")],
        "int",
        False,
    )
    assert offered["keep"][2] == [
        ("key", 0, None, ""),
        ("value", 1, None, ""),
        ("at", 3, "...", "datetime.date"),
        ("limit", 3, "1000", ""),
    ]


def test_calls_run_in_order_and_answer_by_number(worker: WorkerProcess) -> None:
    outcomes = worker.apply(
        ("increment",),
        ("increment", (5,)),
        ("increment", (), {"by": 1, "note": "x"}),
        ("getvalue",),
    )
    assert outcomes == [10, 15, 16, 16]
    assert worker.call("echo", 1, (2,), a={"b": None}) == [(1, (2,)), {"a": {"b": None}}]
    assert worker.read("getvalue") == 16
    assert [worker.call("__len__"), worker.call("double", 4)] == [16, 8]


def test_frames_that_come_together_are_answered_in_order(worker: WorkerProcess) -> None:
    calls = [frames.apply(index, 0, [(index, ("increment", (1,)))]) for index in range(1, 51)]
    answers = worker.ask(*calls, frames.snapshot(9), frames.read([(51, ("getvalue",))]))
    done = [answer for answer in answers if answer[0] == "done"]
    expected = [("done", [(index, index)], None) for index in range(1, 51)]
    assert done == [*expected, ("done", [(51, 50)], None)]
    assert sorted(answer[0] for answer in answers[50:]) == ["done", "snapshot"]


@pytest.mark.parametrize("entries", [1, 2])
def test_what_is_done_is_said_before_what_takes_long(entries: int) -> None:
    long, endless = (1, ("spin", (1_000_000,))), (2, ("halt",))
    frame = frames.apply(1, 0, [long, endless])
    both = frames.apply(1, 0, [long]) + frames.apply(2, 0, [endless])
    with WorkerProcess("tencounter.Slow") as worker:
        worker.socket.sendall(frame if entries == 1 else both)
        assert worker.answer() == ("done", [(1, 1_000_000)], None)
        have_go_on(worker)
        assert worker.answer() == ("done", [(2, None)], None)


def test_when_a_timer_is_due_is_said_as_soon_as_what_is_done() -> None:
    calls = [(1, ("spin_later", (5, 1))), (2, ("spin", (1_000_000,))), (3, ("halt",))]
    with WorkerProcess("tencounter.Slow") as worker:
        worker.socket.sendall(frames.apply(1, 0, calls, 1000))
        done, wakes = [], set()
        while len(done) < 2:
            _, part, wake_at = worker.answer()
            done += part
            wakes.add(wake_at)
        have_go_on(worker)
        _, _, wake_at = worker.answer()
        assert (done, wakes | {wake_at}) == ([(1, None), (2, 1_000_000)], {6000})


def have_go_on(worker: WorkerProcess) -> None:
    _, status = os.waitpid(worker.process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    os.kill(worker.process.pid, signal.SIGCONT)


def test_a_frame_may_come_byte_by_byte(worker: WorkerProcess) -> None:
    for byte in frames.apply(1, 0, [(1, ("increment",))]):
        worker.socket.sendall(bytes([byte]))
    assert worker.answer() == ("done", [(1, 10)], None)


@pytest.mark.parametrize(
    "method",
    ["_private", "__init__", "__class__", "__dict__", "made", "tens", "helper", "seen", "value",
     "__str__", "__reduce__", "nothing", ""],
)  # fmt: skip
def test_only_public_methods_can_be_called(worker: WorkerProcess, method: str) -> None:
    outcome = worker.call(method)
    no_such_method = 4
    assert isinstance(outcome, Refused)
    assert outcome.kind == no_such_method


def test_an_exception_is_the_outcome_of_its_call_only(worker: WorkerProcess) -> None:
    outcomes = worker.apply(
        ("increment", (5000,)), ("leave",), ("increment", (1, 2)), ("increment",)
    )
    overflowed, left, wrong, value = outcomes
    assert isinstance(overflowed.error, RemoteError)
    assert (overflowed.error.module, overflowed.error.name) == ("tencounter", "OverflowedError")
    assert overflowed.error.args == ("no room", 1000)
    assert str(overflowed.error) == "tencounter.OverflowedError: ('no room', 1000)"
    assert 'File "tencounter.py"' in overflowed.error.traceback
    assert "raise OverflowedError" in overflowed.error.traceback
    assert str(frames.HERE) not in overflowed.error.traceback
    assert left.error.name == "SystemExit"
    assert str(wrong.error).startswith("TenCounter.increment() takes from 1 to 2 positional")
    assert value == 10


def test_an_exceptions_argument_that_cannot_travel_goes_as_text(worker: WorkerProcess) -> None:
    error = worker.call("chained").error
    assert type(error) is ValueError
    assert error.args[0] == "while looking"
    assert error.args[1].startswith("<object object at")


def test_a_result_that_cannot_travel_is_an_error_for_its_call(worker: WorkerProcess) -> None:
    outcomes = worker.apply(("unencodable",), ("huge",), ("increment",))
    assert type(outcomes[0].error) is TypeError
    assert str(outcomes[0].error) == "the result, value of 'job', item 1: cannot encode object"
    assert "4194304 is the most" in str(outcomes[1].error)
    assert outcomes[2] == 10


def test_arguments_that_are_none_are_refused(worker: WorkerProcess) -> None:
    message = frames.varint(1) * 2 + frames.varint(0) * 2 + frames.varint(1)
    message += frames.varint(1) * 3 + frames.varint(0) + frames.text("") * 2
    message += frames.text("increment") + frames.text(b"\xff\xff")
    malformed = 9
    kind, [(_, outcome)], _ = worker.ask(frames.frame(message))
    assert kind == "done"
    assert outcome.kind == malformed


def test_it_starts_anew_with_the_arguments_of_the_class(worker: WorkerProcess) -> None:
    assert worker.apply(("increment",), ("__concoordinit__", (3,)), ("getvalue",)) == [10, None, 3]
    failed, value = worker.apply(("__concoordinit__", (1, 2, 3)), ("getvalue",))
    assert type(failed.error) is TypeError
    assert value == 3, "the old object is there until a new one could be made"


def test_two_workers_draw_the_same(worker: WorkerProcess) -> None:
    with WorkerProcess() as other:
        for each in (worker, other):
            each.apply(("increment",))
        drawn = worker.call("drawn")
        assert not isinstance(drawn, Raised), drawn.error
        assert drawn == other.call("drawn")
        again = worker.call("drawn")
        for name in ("time", "random", "seeded", "gauss", "uuid", "secrets", "dates"):
            assert again[name] != drawn[name], name
        assert other.call("drawn") == again
        assert worker.snapshot() == other.snapshot()


def test_time_is_that_of_the_entry(worker: WorkerProcess) -> None:
    (drawn,) = worker.apply(("drawn",), index=5, time_ms=86_400_123)
    assert drawn["time"] == (
        86_400.123, 86_400.123, 86_400_123_000_000, 86_400.123, "Fri Jan  2 00:00:00 1970",
    )  # fmt: skip
    assert [str(date) for date in drawn["dates"]] == [
        "1970-01-02 00:00:00.123000",
        "1970-01-02 00:00:00.123000+00:00",
        "1970-01-02 00:00:00.123000",
        "1970-01-02",
    ]
    assert drawn["uuid"][1].time == 0x01B21DD213814000 + 86_400_123 * 10_000


def test_draws_follow_from_the_entry_and_the_call_alone(worker: WorkerProcess) -> None:
    def drawn(sequence: int):
        return "drawn", (), {}, Whose(1, sequence)

    worker.apply(*map(drawn, (1, 2, 3)), index=1)
    one, two = worker.apply(drawn(4), drawn(5), index=2)
    assert one["random"] != two["random"]
    with WorkerProcess() as fresh:
        # In two parts, with a read between them, as where a worker goes on after another one.
        assert fresh.apply(drawn(4), index=2) == [one]
        fresh.read("drawn")
        assert fresh.apply(drawn(5), index=2) == [two]
    with WorkerProcess() as without:
        assert without.apply(drawn(5), index=2) == [two], "where the other one is left out"


@pytest.mark.parametrize("how", ["file", "remove", "socket", "process", "fork", "thread", "sleep"])
def test_what_reaches_out_is_refused(worker: WorkerProcess, how: str) -> None:
    assert type(worker.call("reach_out", how).error) is NonDeterministicError
    assert worker.call("increment") == 10


def test_a_snapshot_is_the_state_at_its_place_among_the_calls(worker: WorkerProcess) -> None:
    worker.apply(("increment",), ("keep", ("k", "v")), ("keep_dates",))
    answers = worker.ask(frames.snapshot(1), frames.apply(9, 0, [(90, ("increment",))]))
    states = [answer for answer in answers if answer[0] == "snapshot"]
    [(_, number, state)] = states
    assert number == 1
    with WorkerProcess() as other:
        assert other.ask(frames.restore(state)) == ("restored", None)
        assert other.call("getvalue") == 10
        assert other.call("__getitem__", "k")[0] == "v"
        assert str(other.call("__getitem__", "at")).startswith("2023-11-14 22:13:20")


def test_who_restored_and_who_lived_through_it_are_alike(worker: WorkerProcess) -> None:
    # Strings that are one object with the names of attributes here, and others after a reload.
    day = {"at": datetime.date(2026, 1, 1)}
    worker.apply(("keep", ("value", "value"), day), ("keep", ("seen", ["value"]), day))
    with WorkerProcess() as other:
        other.ask(frames.restore(worker.snapshot()))
        for each in (worker, other):
            each.apply(("increment",), ("keep", ("more", "value"), day), index=10)
        assert worker.snapshot() == other.snapshot()


def test_a_state_of_megabytes_does_not_hold_calls_up(worker: WorkerProcess) -> None:
    for key in range(8):
        worker.call("keep", key, os.urandom(1 << 20))
    state = worker.snapshot()
    assert len(state) > 8 << 20
    with WorkerProcess() as other:
        assert other.ask(frames.restore(state)) == ("restored", None)
        assert other.snapshot() == state


def test_a_state_larger_than_any_pipe_holds_no_call_up(worker: WorkerProcess) -> None:
    worker.call("keep", "large", os.urandom(8 << 20))
    from_, to = os.pipe()
    # Nobody reads the state, and calls go on.
    socket.send_fds(worker.socket, [frames.snapshot(1)], [to])
    os.close(to)
    assert worker.apply(("increment",), ("increment",)) == [10, 20]
    with open(from_, "rb") as pipe:
        state = pipe.read()
    kind, number, written = worker.answer_alone()
    assert (kind, number, written.size) == ("snapshot", 1, len(state))


def test_a_class_may_write_its_state_down_itself() -> None:
    name = "tencounter.Hooked"
    with WorkerProcess(name) as worker, WorkerProcess(name) as other:
        assert worker.apply(("add",), ("add",)) == [1, 2]
        assert other.ask(frames.restore(worker.snapshot())) == ("restored", None)
        assert other.apply(("add",), ("times_restored",)) == [3, 1]
        assert worker.call("times_restored") == 0
        assert isinstance(worker.call("__concoord_snapshot__"), Refused)


def test_sets_are_told_of_and_settled_so_that_all_pop_alike() -> None:
    name = "tencounter.Bag"
    words = [f"word {number}" for number in range(300)]
    with WorkerProcess(name) as lived, WorkerProcess(name) as joined, WorkerProcess(name) as late:
        for each in range(0, 300, 7):
            lived.call("put", *words[each:], *words[:each])
        lived.call("pop", 250)
        late.ask(frames.restore(lived.snapshot()))
        assert lived.has_sets
        assert late.call("all") != lived.call("all"), "what this is all about"
        state = lived.settle()
        joined.ask(frames.restore(state))
        for each in (lived, joined):
            each.call("put", *words[:40])
        assert lived.call("pop", 90) == joined.call("pop", 90)
        assert lived.call("all") == joined.call("all")


def test_a_state_without_sets_is_said_to_have_none(worker: WorkerProcess) -> None:
    worker.call("keep", "k", [1, {"a": (2, 3)}])
    worker.snapshot()
    assert not worker.has_sets


def test_a_state_that_is_none_changes_nothing(worker: WorkerProcess) -> None:
    worker.call("increment")
    kind, outcome = worker.ask(frames.restore(b"nonsense"))
    assert kind == "restored"
    assert isinstance(outcome, Raised)
    assert worker.call("getvalue") == 10


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.Thing", "there is no module 'nowhere' for nowhere.Thing: start in the folder"),
        ("tencounter.Nothing", "module 'tencounter' has no class 'Nothing'; it has"),
        ("tencounter.LIMIT", "module 'tencounter' has no class 'LIMIT'"),
        ("Thing", "'Thing' names no class: it should be like module.Class"),
        ("tencounter.Needy", "tencounter.Needy() can't be made without arguments: TypeError"),
        (
            "tencounter.Locked",
            "tencounter.Locked can't be replicated: self.guard can't be written down: TypeError",
        ),
        (
            "tencounter.Nested",
            "tencounter.Nested can't be replicated: self.inner['lock'] can't be written down",
        ),
        (
            "tencounter.HalfHooked",
            "HalfHooked defines __concoord_snapshot__ but no __concoord_restore__",
        ),
        ("tencounter.Leaver", "tencounter.Leaver() can't be made without arguments: SystemExit: 3"),
        ("broken.Thing", "module 'broken' can't be imported:"),
        ("lacking.Thing", "No module named 'not_installed'"),
    ],
)
def test_why_a_class_cannot_be_loaded(name: str, words: str, tmp_path) -> None:
    (tmp_path / "broken.py").write_text("class Thing:\n    x = 1 / 0\n")
    (tmp_path / "lacking.py").write_text("import not_installed\n")
    (tmp_path / "tencounter.py").write_bytes((frames.HERE / "tencounter.py").read_bytes())
    with WorkerProcess(name, folder=tmp_path) as worker:
        kind, sentence = worker.loaded
        assert kind == "not loaded"
        assert words in sentence


def test_it_starts_without_what_differs_between_replicas(tmp_path) -> None:
    (tmp_path / "looks.py").write_text(
        "import os, sys\n"
        "class Looks:\n"
        "    def at(self):\n"
        "        return [hash('a'), os.environ['TZ'], open('/proc/self/personality').read(),\n"
        "                'CONCOORD_WORKER' in os.environ, sys.stdin.read()]\n"
    )
    with WorkerProcess("looks.Looks", folder=tmp_path) as worker:
        hashed, zone, personality, marked, typed = worker.call("at")
        assert zone == "UTC"
        assert int(personality, 16) & 0x0040000, "addresses are not random"
        assert not marked
        assert typed == ""
        with WorkerProcess("looks.Looks", folder=tmp_path) as other:
            assert other.call("at")[0] == hashed


def test_ctrl_c_is_for_the_replica(worker: WorkerProcess) -> None:
    worker.process.send_signal(signal.SIGINT)
    assert worker.call("increment") == 10


def test_a_damaged_frame_ends_it() -> None:
    worker = WorkerProcess()
    worker.socket.sendall(struct.pack("<III", 1, 0, 0) + b"x")
    try:
        assert worker.process.wait(timeout=30) == 1
    finally:
        worker.socket.close()
        worker.process.kill()
        worker.process.wait()


def test_what_must_be_alike_on_replicas_are_all_classes_and_their_sources() -> None:
    def runtime(*names: str) -> str:
        with WorkerProcess(*names) as worker:
            return worker.loaded[2]

    first = "waiting.Timed"
    assert runtime(first, "waiting.Buffer") != runtime(first, "waiting.Locks")
    assert runtime(first, "waiting.Buffer") != runtime("waiting.Buffer", first)
    assert runtime(first) != runtime("waiting.Buffer")
    several = runtime(first, "waiting.Buffer", "waiting.Locks")
    assert several == runtime(first, "waiting.Locks", "waiting.Buffer"), "the first one apart"
