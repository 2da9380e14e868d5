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
    def get(self) -> int:
        """Return the value."""
    def set(self, value: int) -> None:
        """Make it `value`."""
    def increment_and_get(self, by: int = 1) -> int:
        """Add `by` and return the new value."""
    def decrement_and_get(self, by: int = 1) -> int:
        """Subtract `by` and return the new value."""
    def get_and_increment(self, by: int = 1) -> int:
        """Add `by` and return the value before."""
    def get_and_decrement(self, by: int = 1) -> int:
        """Subtract `by` and return the value before."""
    def add_and_get(self, delta: int) -> int:
        """Add `delta` and return the new value."""
    def get_and_add(self, delta: int) -> int:
        """Add `delta` and return the value before."""
    def get_and_set(self, value: int) -> int:
        """Make it `value` and return the value before."""
    def compare_and_set(self, expected: int, new: int) -> bool:
        """Make it `new` if it is `expected`; return whether it was."""
