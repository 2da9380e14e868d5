from typing import Any

from concoord import Proxy

__all__ = ["BinaryTree"]

class BinaryTree(Proxy):
    """A binary search tree: values in their order."""

    def __concoordinit__(self) -> None:
        """Start anew, empty."""
    def add_node(self, data: object) -> None:
        """Insert `data`; raise TypeError if it does not compare with the rest."""
    def insert(self, data: object) -> None:
        """Insert `data`; raise TypeError if it does not compare with the rest."""
    def find(self, data: object) -> bool:
        """Return whether a value equal to `data` is there."""
    def delete(self, data: object) -> bool:
        """Remove one value equal to `data`; return whether there was one."""
    def get_min(self) -> Any:
        """Return the least value; raise ValueError if there is none."""
    def get_max(self) -> Any:
        """Return the greatest value; raise ValueError if there is none."""
    def get_depth(self) -> int:
        """Return how many levels the balanced tree of its values has."""
    def get_size(self) -> int:
        """Return how many values there are."""
    def get_values(self) -> list[Any]:
        """Return the values in their order."""
    def __len__(self) -> int:
        """Return how many values there are."""
    def __contains__(self, data: object) -> bool:
        """Return whether a value equal to `data` is there."""
