from typing import Any

from concoord import Proxy

__all__ = ["Stack"]

class Stack(Proxy):
    """A stack: last in, first out."""

    def __concoordinit__(self) -> None:
        """Start anew, empty."""
    def append(self, item: object) -> None:
        """Put `item` on top."""
    def push(self, item: object) -> None:
        """Put `item` on top."""
    def pop(self) -> Any:
        """Take the item on top and return it; raise IndexError if there is none."""
    def peek(self) -> Any:
        """Return the item on top; raise IndexError if there is none."""
    def get_size(self) -> int:
        """Return how many items there are."""
    def get_stack(self) -> list[Any]:
        """Return the items, the lowest first."""
    def __len__(self) -> int:
        """Return how many items there are."""
