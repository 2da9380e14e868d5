"""A proxy of tencounter.TenCounter, written by `concoord object -o tencounter.TenCounter`."""

from __future__ import annotations

from concoord import Proxy


class TenCounter(Proxy):
    """Counts in tens.

    As the tutorial's own would.
    """

    __slots__ = ()
    _class = "tencounter.TenCounter"

    def __concoordinit__(self, value: int = 0) -> None:
        """Start from `value`."""
        self._call("__concoordinit__", value)

    def inherited(self) -> str:
        """Come from the base."""
        return self._call("inherited")

    def increment(self, by: int = 10, *, note: str | None = None) -> int:
        """Add `by` and return the value."""
        return self._call("increment", by, note=note)

    def getvalue(self) -> int:
        """Return the value."""
        return self._call("getvalue")

    def echo(self, *args, **kwargs):
        return self._call("echo", *args, **kwargs)

    def keep(self, key, /, value, *, at: datetime.date = ..., limit=1000):
        return self._call("keep", key, value, at=at, limit=limit)

    def close(self, account: str) -> str:
        return self._call("close", account)

    def double(self, number: int) -> int:
        return self._call("double", number)

    def __len__(self) -> int:
        return self._call("__len__")

    def __contains__(self, key) -> bool:
        return self._call("__contains__", key)

    def __getitem__(self, key):
        return self._call("__getitem__", key)

    def __str__(self) -> str:
        return self._call("__repr__")

    def drawn(self) -> dict[str, object]:
        """Draw from everything that would differ between replicas."""
        return self._call("drawn")

    def keep_dates(self) -> datetime.datetime:
        return self._call("keep_dates")

    def reach_out(self, how: str) -> None:
        """Do what replicas must not."""
        return self._call("reach_out", how)

    def unencodable(self):
        return self._call("unencodable")

    def huge(self):
        return self._call("huge")

    def leave(self):
        return self._call("leave")

    def chained(self):
        return self._call("chained")
