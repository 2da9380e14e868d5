from typing import Any

from concoord import Proxy

__all__ = ["AtomicReference"]

class AtomicReference(Proxy):
    """One value of any kind, None at first."""

    def __concoordinit__(self, value: object = None) -> None:
        """Start anew, from `value`."""
    def get(self) -> Any:
        """Return the value."""
    def set(self, value: object) -> None:
        """Make it `value`."""
    def get_and_set(self, value: object) -> Any:
        """Make it `value` and return what it was."""
    def compare_and_set(self, expected: object, new: object) -> bool:
        """Make it `new` if it is `expected`, in type as well: 1 is neither 1.0 nor True.

        Return whether it was.
        """
