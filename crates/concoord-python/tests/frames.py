"""The frames between a replica and its worker, written once more from their description.

What `concoord_core::wire` says in Rust: a header of twelve bytes (length, CRC-32C, zeros), then a
message in postcard's encoding. To have it twice is what makes the tests of the worker honest.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from concoord._concoord import decode, encode

HERE = Path(__file__).parent


def _table():
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        yield crc


_TABLE = list(_table())


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def frame(message: bytes) -> bytes:
    length = struct.pack("<I", len(message))
    return length + struct.pack("<II", crc32c(length + message), 0) + message


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def text(data: str | bytes) -> bytes:
    data = data.encode() if isinstance(data, str) else data
    return varint(len(data)) + data


def arguments(args=(), kwargs=None) -> bytes:
    if not args and not kwargs:
        return b""
    return b"\x82" + encode(list(args)) + encode(kwargs or {})


def load(*names: str) -> bytes:
    return frame(varint(0) + varint(len(names)) + b"".join(map(text, names)))


class Whose(NamedTuple):
    """What a call says besides its method and arguments."""

    session: int = 1
    sequence: int = 0
    """0 stands for the number that it has."""
    thread: int = 0
    of: str = ""
    name: str = ""


def _calls(calls) -> bytes:
    out = varint(len(calls))
    for number, (method, *given) in calls:
        whose = given.pop() if given and isinstance(given[-1], Whose) else Whose()
        call = (whose.session, whose.sequence or number, whose.thread)
        out += varint(number) + b"".join(map(varint, call)) + text(whose.of) + text(whose.name)
        out += text(method) + text(arguments(*given))
    return out


def apply(index: int, time_ms: int, calls, clock_ms: int = 0) -> bytes:
    times = varint(index) + varint(time_ms) + varint(clock_ms)
    return frame(varint(1) + times + _calls(calls))


def read(calls, time_ms: int = 0) -> bytes:
    return frame(varint(2) + varint(time_ms) + _calls(calls))


class Restore(bytes):
    """A frame that brings a state."""

    state: bytes


def restore(state: bytes) -> Restore:
    made = Restore(frame(varint(4)))
    made.state = state
    return made


class Take(bytes):
    """A frame that asks for a state."""

    number: int


def _take(kind: int, number: int) -> Take:
    made = Take(frame(varint(kind) + varint(number)))
    made.number = number
    return made


def snapshot(number: int) -> Take:
    return _take(3, number)


def settle(number: int) -> Take:
    return _take(5, number)


CANCELLED = 7
"""The number of that refusal."""


class Raised(NamedTuple):
    error: BaseException


class Refused(NamedTuple):
    kind: int
    message: bytes


class Parked(NamedTuple):
    """A call waits."""


class Woken(NamedTuple):
    """A call that waited has ended."""

    session: int
    sequence: int
    outcome: object


class Written(NamedTuple):
    size: int
    has_sets: bool


class Reader:
    """Reads postcard."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, size: int) -> bytes:
        taken, self.data = self.data[:size], self.data[size:]
        assert len(taken) == size
        return taken

    def varint(self) -> int:
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    def bytes(self) -> bytes:
        return self.take(self.varint())

    def text(self) -> str:
        return self.bytes().decode()

    def list(self, item) -> list:
        return [item() for _ in range(self.varint())]

    def option(self, item):
        return item() if self.varint() else None

    def result(self, ok):
        return Raised(RuntimeError(self.text())) if self.varint() else ok()

    def outcome(self):
        kind = self.varint()
        if kind == 0:
            return decode(self.bytes())
        if kind == 1:
            return Raised(decode(self.bytes()))
        kind = self.varint()
        if kind == CANCELLED:
            return Refused(kind, b"")
        # The last of a frame but for when the next timer is due, as these tests ask for it.
        refused = Refused(kind, self.data)
        self.data = b"\0"
        return refused

    def done(self):
        kind, number = self.varint(), self.varint()
        if kind == 0:
            return (number, self.outcome())
        if kind == 1:
            return (number, Parked())
        return (number, Woken(self.varint(), self.varint(), self.outcome()))

    def parameter(self):
        return (self.text(), self.varint(), self.option(self.text), self.text())

    def method(self):
        parts = (self.text(), self.text(), self.list(self.parameter), self.text())
        return (*parts, bool(self.varint()))

    def answer(self):
        kind = self.varint()
        if kind == 0:
            interface = lambda: (self.text(), self.text(), self.list(self.method))  # noqa: E731
            return ("loaded", self.list(interface), self.text())
        if kind == 1:
            return ("not loaded", self.text())
        if kind == 2:
            return ("done", self.list(self.done), self.option(self.varint))
        if kind == 3:
            written = lambda: Written(self.varint(), bool(self.varint()))  # noqa: E731
            return ("snapshot", self.varint(), self.result(written))
        if kind == 4:
            return ("restored", self.result(lambda: None))
        return ("settled", self.varint(), self.result(lambda: None))


def _read(pipe: int) -> bytes:
    with open(pipe, "rb") as file:
        return file.read()


def _write(pipe: int, state: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), open(pipe, "wb") as file:
        file.write(state)


class WorkerProcess:
    """A worker, driven as its replica would."""

    def __init__(
        self, name: str | None = "tencounter.TenCounter", *more: str, folder: Path = HERE
    ) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(30)
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "concoord._worker"],
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                env=environment,
            )
        self.pending = bytearray()
        self.threads = ThreadPoolExecutor()
        self.states: dict[int, Future[bytes]] = {}
        self.has_sets = False
        self.number = 0
        self.index = 0
        self.wake_at: int | None = None
        if name is not None:
            self.loaded = self.ask(load(name, *more))

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        try:
            assert self.process.wait(timeout=30) == 0, "it ends when its replica does"
        finally:
            self.process.kill()
            self.process.wait()
            self.threads.shutdown()

    def ask(self, *frames: bytes):
        for each in frames:
            self.send(each)
        answers = [self.answer() for _ in frames]
        return answers[0] if len(answers) == 1 else answers

    def send(self, frame: bytes) -> None:
        """Send a frame, with the pipe of the state that it asks for or brings."""
        if not isinstance(frame, Take | Restore):
            return self.socket.sendall(frame)
        from_, to = os.pipe()
        theirs, ours = (to, from_) if isinstance(frame, Take) else (from_, to)
        sent = socket.send_fds(self.socket, [frame], [theirs])
        assert sent == len(frame)
        os.close(theirs)
        if isinstance(frame, Take):
            self.states[frame.number] = self.threads.submit(_read, ours)
        else:
            self.threads.submit(_write, ours, frame.state)
        return None

    def answer(self):
        answer = self.answer_alone()
        return self._with_state(*answer) if answer[0] == "snapshot" else answer

    def answer_alone(self):
        header = self.receive(12)
        length, crc, zeros = struct.unpack("<III", header)
        body = self.receive(length)
        assert (crc, zeros) == (crc32c(header[:4] + body), 0)
        reader = Reader(body)
        answer = reader.answer()
        assert not reader.data
        return answer

    def _with_state(self, kind, number, written):
        state = self.states.pop(number).result(30)
        if isinstance(written, Raised):
            return (kind, number, written)
        assert len(state) == written.size
        self.has_sets = written.has_sets
        return (kind, number, state)

    def receive_frame(self) -> bytes:
        """Take the next message as it is, unread and unchecked."""
        (length,) = struct.unpack_from("<I", self.receive(12))
        return self.receive(length)

    def receive(self, size: int) -> bytes:
        while len(self.pending) < size:
            more = self.socket.recv(1 << 16)
            assert more, "the worker hung up"
            self.pending += more
        taken = bytes(self.pending[:size])
        del self.pending[:size]
        return taken

    def apply(self, *calls, index: int | None = None, time_ms: int | None = None, clock_ms=0):
        """Apply the calls as one entry and return their outcomes."""
        self.index = self.index + 1 if index is None else index
        time_ms = 1_700_000_000_000 + self.index if time_ms is None else time_ms
        self.send(apply(self.index, time_ms, self._numbered(calls), clock_ms))
        done = []
        # What takes a while is answered in parts.
        while not done or done[-1][0] < self.number or isinstance(done[-1][1], Woken):
            kind, part, self.wake_at = self.answer()
            assert kind == "done"
            done += part
        return [outcome for _, outcome in done]

    def call(self, method: str, *args, **kwargs):
        (outcome,) = self.apply((method, args, kwargs))
        return outcome

    def read(self, method: str, *args):
        kind, [(_, outcome)], _ = self.ask(read(self._numbered([(method, args)])))
        assert kind == "done"
        return outcome

    def snapshot(self) -> bytes:
        kind, number, state = self.ask(snapshot(7))
        assert (kind, number) == ("snapshot", 7)
        assert isinstance(state, bytes), state
        return state

    def settle(self) -> bytes:
        assert self.ask(settle(7)) == ("settled", 7, None)
        kind, _, state = self.answer()
        assert kind == "snapshot"
        assert isinstance(state, bytes), state
        return state

    def _numbered(self, calls):
        numbered = []
        for call in calls:
            self.number += 1
            numbered.append((self.number, call))
        return numbered
