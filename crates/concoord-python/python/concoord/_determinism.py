"""The world as a replicated object sees it: the same on every replica.

Time stands still at the entry that is applied, random numbers follow from its index and the call,
and what reaches out of the process is refused. All of it through the ordinary names, put in place
before the object's module is imported. Whoever knows the log knows what was drawn: nothing drawn
here is a secret.
"""

from __future__ import annotations

import _thread
import copyreg
import datetime as datetime_module
import hashlib
import os
import random as random_module
import sys
import threading
import time as time_module
import uuid as uuid_module
from typing import Any, NoReturn

from concoord.exception import NonDeterministicError

_REFUSED_EVENTS = (
    "os.", "shutil.", "socket.", "subprocess.", "pty.", "tempfile.", "_thread.",
    "_posixsubprocess.", "ctypes.dlopen", "signal.pthread_kill", "sqlite3.", "urllib.", "ftplib.",
    "http.", "imaplib.", "nntplib.", "poplib.", "smtplib.", "telnetlib.",
)  # fmt: skip

# They only look, and imports need them.
_HARMLESS_EVENTS = frozenset({"os.listdir", "os.scandir", "os.listxattr", "os.getxattr"})


class Draws:
    """Random numbers from a counter, so that they need no state that a snapshot must hold.

    Where `step` is set, the next ones follow from that and the entry. Most steps draw nothing.
    """

    def __init__(self) -> None:
        """Start before any entry."""
        self.reset(b"")

    def reset(self, key: bytes) -> None:
        """Start anew from a key."""
        self.step: tuple[Any, ...] | None = None
        self._key = hashlib.blake2b(key).digest()
        self._count = 0
        self._left = b""

    def take(self, size: int) -> bytes:
        """Draw bytes."""
        if self.step is not None:
            self.reset(f"entry {_index}: {self.step}".encode())
        while len(self._left) < size:
            block = self._count.to_bytes(8, "little")
            self._left += hashlib.blake2b(block, key=self._key).digest()
            self._count += 1
        drawn, self._left = self._left[:size], self._left[size:]
        return drawn


draws = Draws()
_index = -1
_time_ns = 0
_guarded = False


def begin(index: int, time_ms: int) -> None:
    """Enter an entry."""
    global _index, _time_ns, _guarded
    _index, _time_ns, _guarded = index, time_ms * 1_000_000, True
    draws.reset(b"entry %d" % index)


def begin_read(time_ms: int) -> None:
    """Enter calls that only read, after an entry of that time at the latest."""
    global _time_ns, _guarded
    _time_ns, _guarded = max(_time_ns, time_ms * 1_000_000), True


def end() -> None:
    """Leave it."""
    global _guarded
    _guarded = False


def install() -> None:
    """Put the deterministic world in place, for good."""
    _install_time()
    _install_datetime()
    _install_random()
    _install_uuid()
    _install_threads()
    sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _guarded:
        return
    if event == "open":
        # Flags, not the mode: os.open has only those.
        flags = arguments[2]
        if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            _refuse(f"open {arguments[0]!r} for writing")
    elif event.startswith(_REFUSED_EVENTS) and event not in _HARMLESS_EVENTS:
        _refuse(f"do this ({event})")


def _refuse(what: str) -> NoReturn:
    message = f"a replicated object can't {what}: each replica would do it, with its own result"
    raise NonDeterministicError(message)


def _install_time() -> None:
    real = {name: getattr(time_module, name) for name in ("localtime", "gmtime", "strftime")}

    def seconds(*_clock: object) -> float:
        return _time_ns / 1_000_000_000

    def nanoseconds(*_clock: object) -> int:
        return _time_ns

    for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time"):
        setattr(time_module, name, seconds)
        setattr(time_module, f"{name}_ns", nanoseconds)
    patch: Any = time_module
    patch.clock_gettime, patch.clock_gettime_ns = seconds, nanoseconds
    patch.gmtime = lambda secs=None: real["gmtime"](seconds() if secs is None else secs)
    patch.localtime = lambda secs=None: real["localtime"](seconds() if secs is None else secs)
    asctime, ctime = patch.asctime, patch.ctime
    patch.ctime = lambda secs=None: ctime(seconds() if secs is None else secs)
    patch.asctime = lambda t=None: asctime(patch.localtime() if t is None else t)
    patch.strftime = lambda form, t=None: real["strftime"](
        form, patch.localtime() if t is None else t
    )
    sleep = patch.sleep

    def still(secs: float) -> None:
        if _guarded:
            message = "a replicated object can't sleep: time stands still during a call"
            raise NonDeterministicError(message)
        sleep(secs)

    patch.sleep = still


class _Stands(type):
    """The type of a class that stands for another: all but making `now` is the other's."""

    _for: type

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls._for if "_for" in vars(cls) else cls)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls._for) if "_for" in vars(cls) else cls in subclass.__mro__


def _install_datetime() -> None:
    # The compiled datetime reads the system's clock itself, and its classes can't be changed:
    # they are stood for. The objects made are the real ones, so that pickles and types are, too.
    real: Any = datetime_module.datetime
    utc = datetime_module.timezone.utc

    def now(cls: Any, tz: datetime_module.tzinfo | None = None) -> Any:
        at = cls.fromtimestamp(_time_ns // 1_000_000_000, tz)
        return at.replace(microsecond=_time_ns // 1_000 % 1_000_000)

    def utcnow(cls: Any) -> Any:
        return now(cls, utc).replace(tzinfo=None)

    def today(cls: Any) -> Any:
        return now(cls)

    stand_in = _stand_in(
        real, now=classmethod(now), utcnow=classmethod(utcnow), today=classmethod(today)
    )
    real_date: Any = datetime_module.date

    def date_today(cls: Any) -> Any:
        return cls.fromtimestamp(_time_ns // 1_000_000_000)

    patch: Any = datetime_module
    patch.datetime = stand_in
    patch.date = _stand_in(real_date, today=classmethod(date_today))


def _stand_in(real: Any, **methods: Any) -> Any:
    def new(cls: Any, *args: Any, **kwargs: Any) -> Any:
        return real.__new__(real if cls is stand_in else cls, *args, **kwargs)

    names = {
        **methods, "__new__": new, "__doc__": real.__doc__, "__module__": "datetime", "_for": real,
    }  # fmt: skip
    for name in ("fromtimestamp", "fromisoformat", "fromordinal", "fromisocalendar", "combine",
                 "strptime", "utcfromtimestamp"):  # fmt: skip
        if hasattr(real, name):
            names[name] = classmethod(_as_real(real, name, lambda: stand_in))
    stand_in: Any = _Stands(real.__name__, (real,), names)
    # A pickle names the class by its module, where the stand-in is found.
    copyreg.pickle(real, lambda value: (stand_in, value.__reduce_ex__(4)[1]))
    return stand_in


def _as_real(real: Any, name: str, stand_in: Any) -> Any:
    def make(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if cls is stand_in():
            return getattr(real, name)(*args, **kwargs)
        return getattr(super(stand_in(), cls), name)(*args, **kwargs)

    return make


def _install_random() -> None:
    patch: Any = random_module
    real: Any = random_module.Random
    os.urandom = draws.take
    patch._urandom = draws.take  # noqa: SLF001 - what SystemRandom and so `secrets` draw from
    if hasattr(os, "getrandom"):
        os.getrandom = lambda size, flags=0: draws.take(size)

    class Random(real):  # type: ignore[misc]
        """A generator that is seeded from the entry where it is given no seed."""

        def __init__(self, x: Any = None) -> None:
            super().__init__(x)

        def seed(self, a: Any = None, version: int = 2) -> None:
            super().seed(int.from_bytes(draws.take(32), "little") if a is None else a, version)

    class Shared(real):  # type: ignore[misc]
        """The generator behind `random.random` and its like: the entry's draws, no state."""

        def random(self) -> float:
            return float((int.from_bytes(draws.take(7), "little") >> 3) * 2.0**-53)

        def getrandbits(self, k: int) -> int:
            size = (k + 7) // 8
            return int.from_bytes(draws.take(size), "little") >> (size * 8 - k)

        def randbytes(self, n: int) -> bytes:
            return draws.take(n)

        def seed(self, a: Any = None, version: int = 2) -> None:
            self.gauss_next = None
            if a is not None:
                draws.reset(f"seed {a!r}".encode())

        def gauss(self, mu: float = 0.0, sigma: float = 1.0) -> float:
            # Its spare number would be state that a snapshot does not hold.
            self.gauss_next = None
            return float(super().gauss(mu, sigma))

        def getstate(self) -> Any:
            _refuse("keep the state of `random`: use a random.Random of its own")

        def setstate(self, state: Any) -> None:
            _refuse("set the state of `random`: use a random.Random of its own")

    Random.__module__, Random.__qualname__ = "random", "Random"
    patch.Random = Random
    shared = Shared(0)
    behind = patch.random.__self__
    for name, function in list(vars(random_module).items()):
        if getattr(function, "__self__", None) is behind:
            setattr(random_module, name, getattr(shared, name))
    draws.reset(b"")


def _install_uuid() -> None:
    patch: Any = uuid_module

    def uuid1(node: int | None = None, clock_seq: int | None = None) -> uuid_module.UUID:
        # 100 ns since 1582-10-15; the rest from the entry, with the mark of a node of no card.
        ticks = _time_ns // 100 + 0x01B21DD213814000
        node = int.from_bytes(draws.take(6), "big") | 1 << 40 if node is None else node
        clock_seq = int.from_bytes(draws.take(2), "big") if clock_seq is None else clock_seq
        fields = (
            ticks & 0xFFFFFFFF, ticks >> 32 & 0xFFFF, ticks >> 48 & 0x0FFF,
            clock_seq >> 8 & 0x3F, clock_seq & 0xFF, node,
        )  # fmt: skip
        return uuid_module.UUID(fields=fields, version=1)

    patch.uuid1 = uuid1
    patch.uuid4 = lambda: uuid_module.UUID(bytes=draws.take(16), version=4)
    patch.getnode = lambda: 1 << 40
    for name in ("uuid6", "uuid7", "uuid8"):
        # They keep the last time that they gave out, which no snapshot holds.
        if hasattr(patch, name):
            setattr(patch, name, lambda *_args, _name=name: _refuse(f"call uuid.{_name}"))


def _install_threads() -> None:
    # Python tells of a thread's start only from 3.12 on.
    for module in (_thread, threading):
        for name in ("start_new_thread", "start_new", "_start_new_thread",
                     "start_joinable_thread", "_start_joinable_thread"):  # fmt: skip
            if hasattr(module, name):
                setattr(module, name, _guard_thread(getattr(module, name)))


def _guard_thread(start: Any) -> Any:
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if _guarded:
            _refuse("start a thread")
        return start(*args, **kwargs)

    return guarded
