"""A class such as users write."""

from __future__ import annotations

import datetime
import random
import secrets
import time
import uuid
from random import random as draw
from time import time as now

import concoord

LIMIT = 1_000


class OverflowedError(Exception):
    """The counter has no more room."""


class Base:
    """What it inherits from."""

    def inherited(self) -> str:
        """Come from the base."""
        return "inherited"


class TenCounter(Base):
    """Counts in tens.

    As the tutorial's own would.
    """

    def __init__(self, value: int = 0) -> None:
        """Start from `value`."""
        self.value = value
        self.seen: dict[object, object] = {}

    def increment(self, by: int = 10, *, note: str | None = None) -> int:
        """Add `by` and return the value."""
        if self.value + by > LIMIT:
            raise OverflowedError("no room", LIMIT)
        self.value += by
        return self.value

    @concoord.readonly
    def getvalue(self) -> int:
        """Return the value."""
        return self.value

    def echo(self, *args, **kwargs):
        return [args, kwargs]

    def keep(self, key, /, value, *, at: datetime.date = datetime.date(2020, 1, 1), limit=LIMIT):
        self.seen[key] = (value, at, limit)
        return len(self.seen)

    def close(self, account: str) -> str:
        return f"closed {account}"

    @staticmethod
    def double(number: int) -> int:
        return number * 2

    @classmethod
    def made(cls):
        raise AssertionError("class methods are not offered")

    @property
    def tens(self):
        raise AssertionError("properties are not offered")

    helper = dict  # callable, but no method

    def _private(self):
        raise AssertionError("private methods are not offered")

    def __len__(self) -> int:
        return self.value

    def __contains__(self, key) -> bool:
        return key in self.seen

    def __getitem__(self, key):
        return self.seen[key]

    def __repr__(self) -> str:
        return f"TenCounter({self.value})"

    def drawn(self) -> dict[str, object]:
        """Draw from everything that would differ between replicas."""
        return {
            "time": (now(), time.time(), time.time_ns(), time.monotonic(), time.ctime()),
            "random": (random.random(), draw(), random.randrange(1000), random.choice("abcdef")),
            "seeded": random.Random().random(),
            "gauss": (random.gauss(0, 1), random.gauss(0, 1)),
            "uuid": (uuid.uuid4(), uuid.uuid1()),
            "secrets": (secrets.token_hex(4), secrets.randbelow(100)),
            "dates": (
                datetime.datetime.now(),
                datetime.datetime.now(datetime.timezone.utc),
                datetime.datetime.today(),
                datetime.date.today(),
            ),
            "hash": hash("text"),
        }

    def keep_dates(self) -> datetime.datetime:
        at = datetime.datetime.now()
        assert type(at) is type(datetime.datetime(2020, 1, 1))
        assert isinstance(at, datetime.datetime)
        assert isinstance(at, datetime.date)
        self.seen["at"] = at
        self.seen["tomorrow"] = at + datetime.timedelta(days=1)
        return at

    def reach_out(self, how: str) -> None:
        """Do what replicas must not."""
        import os
        import socket
        import subprocess
        import threading

        {
            "file": lambda: open("never", "w"),
            "remove": lambda: os.remove("never"),
            "socket": socket.socket,
            "process": lambda: subprocess.run(["true"]),
            "fork": os.fork,
            "thread": lambda: threading.Thread(target=print).start(),
            "sleep": lambda: time.sleep(0),
        }[how]()

    def unencodable(self):
        return {"job": [1, object()]}

    def huge(self):
        return b"x" * (5 << 20)

    def leave(self):
        raise SystemExit(3)

    def chained(self):
        try:
            {}["missing"]
        except KeyError as error:
            raise ValueError("while looking", object()) from error


class Locked:
    """State that can't be written down."""

    def __init__(self) -> None:
        import threading

        self.name = "fine"
        self.guard = threading.Lock()


class Slow:
    """Takes its time."""

    def spin(self, rounds: int) -> int:
        return sum(1 for _ in range(rounds))

    def spin_later(self, seconds: int, rounds: int) -> None:
        concoord.call_later(seconds, "spin", rounds)

    def halt(self) -> None:
        """Stop until somebody has the process go on."""
        import signal

        signal.raise_signal(signal.SIGSTOP)


class Needy:
    """Can't be made without arguments."""

    def __init__(self, name) -> None:
        self.name = name


class Leaver:
    def __init__(self):
        raise SystemExit(3)


class Nested:
    """State that can't be written down, deep inside."""

    def __init__(self) -> None:
        import threading

        self.fine = [1, 2]
        self.inner = {"names": ["a"], "lock": threading.Lock()}


class HalfHooked:
    """Writes its state down itself, and could not read it."""

    def __concoord_snapshot__(self):
        return 1


class Hooked:
    """Writes its state down itself: what pickle could not."""

    def __init__(self) -> None:
        import threading

        self.value = 0
        self.guard = threading.Lock()
        self.restored = 0

    def add(self) -> int:
        self.value += 1
        return self.value

    def times_restored(self) -> int:
        return self.restored

    def __concoord_snapshot__(self) -> bytes:
        return b"%d" % self.value

    def __concoord_restore__(self, state: bytes) -> None:
        self.value = int(state)
        self.restored += 1


class Bag:
    """Gives its strings in the order of a set."""

    def __init__(self) -> None:
        self.words: set[str] = set()

    def put(self, *words: str) -> int:
        self.words.update(words)
        return len(self.words)

    def pop(self, count: int) -> list[str]:
        return [self.words.pop() for _ in range(min(count, len(self.words)))]

    def all(self) -> list[str]:
        return list(self.words)
