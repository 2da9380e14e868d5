from concoord import Proxy

__all__ = ["Counter"]

class Counter(Proxy):
    """A counter: an int of any size, 0 at first."""

    def __concoordinit__(self, value: int = 0) -> None:
        """Start anew, from `value`."""
    def increment(self, by: int = 1) -> None:
        """Add `by`."""
    def decrement(self, by: int = 1) -> None:
        """Subtract `by`."""
    def getvalue(self) -> int:
        """Return the value."""
