from typing import Any

from concoord import Proxy

__all__ = ["Map"]

class Map(Proxy):
    """A dict; 1, 1.0 and True are one key."""

    def __concoordinit__(self, items: dict[Any, Any] | None = None) -> None:
        """Start anew, with the items of `items`."""
    def put(
        self, key: object, value: object, ephemeral: bool = False, ttl: float | None = None
    ) -> Any:
        """Set the value of a key and return what it was, or None.

        An ephemeral key is removed when the session of the caller ends, one with a `ttl` after so
        many seconds; another `put` makes it what that says.
        """
    def put_if_absent(
        self, key: object, value: object, ephemeral: bool = False, ttl: float | None = None
    ) -> Any:
        """Set the value of a key that is not there and return None, or return what it has."""
    def replace(self, key: object, value: object) -> bool:
        """Set the value of a key that is there; return whether it is."""
    def compare_and_set(self, key: object, expected: object, new: object) -> bool:
        """Set the value of a key if it is `expected`; return whether it was.

        It must be so in type as well: 1 is neither 1.0 nor True.
        """
    def remove(self, key: object) -> Any:
        """Remove a key and return what it had, or None if it is not there."""
    def pop(self, key: object, default: object = ...) -> Any:
        """Remove a key and return what it had, or `default`; raise KeyError without either."""
    def setdefault(self, key: object, default: object = None) -> Any:
        """Return the value of a key, set to `default` if it was not there."""
    def update(self, items: dict[Any, Any]) -> None:
        """Set the values of all keys of a dict."""
    def clear(self) -> None:
        """Remove all keys."""
    def get(self, key: object, default: object = None) -> Any:
        """Return the value of a key, or `default`."""
    def keys(self) -> list[Any]:
        """Return the keys."""
    def values(self) -> list[Any]:
        """Return the values."""
    def items(self) -> list[tuple[Any, Any]]:
        """Return the keys with their values."""
    def contains(self, key: object) -> bool:
        """Return whether the key is there."""
    def size(self) -> int:
        """Return how many keys there are."""
    def __getitem__(self, key: object) -> Any:
        """Return the value of a key, or raise KeyError."""
    def __len__(self) -> int:
        """Return how many keys there are."""
    def __contains__(self, key: object) -> bool:
        """Return whether the key is there."""
