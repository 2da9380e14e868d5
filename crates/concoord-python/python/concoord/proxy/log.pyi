from typing import Any

from concoord import Proxy

__all__ = ["Log"]

class Log(Proxy):
    """Entries in the order in which they were written, numbered from 0."""

    def __concoordinit__(self) -> None:
        """Start anew, empty, with number 0."""
    def write(self, entry: object) -> int:
        """Have `entry` replace all that there is; return its number."""
    def append(self, entry: object) -> int:
        """Add `entry` at the end; return its number."""
    def read(self, start: int = 0, limit: int | None = None) -> list[Any]:
        """Return the entries from that number on, or from the first that is left.

        Return `limit` of them at most if that is given.
        """
    def trim(self, before: int) -> int:
        """Forget the entries before that number; return how many that were."""
    def first(self) -> int:
        """Return the number of the first entry that is there."""
    def next(self) -> int:
        """Return the number that the next entry will have."""
    def __len__(self) -> int:
        """Return how many entries there are."""
