__all__ = ["Counter"]

class Counter:
    """A counter: an int of any size, 0 at first."""

    def __init__(self, value: int = 0) -> None: ...
    def __concoordinit__(self, value: int = 0) -> None:
        """Start anew, from `value`."""
    def increment(self, by: int = 1) -> None:
        """Add `by`."""
    def decrement(self, by: int = 1) -> None:
        """Subtract `by`."""
    def getvalue(self) -> int:
        """Return the value."""
