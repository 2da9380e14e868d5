from typing import Any

from concoord import Proxy

__all__ = ["LockingQueue"]

class LockingQueue(Proxy):
    """A queue whose items are leased until they are consumed."""

    def __concoordinit__(self) -> None:
        """Start anew, empty; leases are over, who waits for an item goes on waiting."""
    def put(self, item: object) -> None:
        """Put `item`."""
    def put_all(self, items: list[Any] | tuple[Any, ...]) -> None:
        """Put the items of a list or tuple, in their order."""
    def get(
        self, block: bool = True, timeout: float | None = None, lease: float | None = None
    ) -> tuple[int, Any]:
        """Lease the next item: return the id of the lease, which is a fencing token, and the item.

        If there is none, wait, for `timeout` seconds at most if that is given; raise queue.Empty
        without one then, or at once if not `block`. The lease is over after `lease` seconds if
        that is given, and with the session.
        """
    def holds(self, token: int) -> bool:
        """Return whether that lease is not over."""
    def consume(self, token: int) -> bool:
        """Remove the item; return False, and do not, if the lease is over."""
    def ack(self, token: int) -> bool:
        """Remove the item, as `consume` does."""
    def release(self, token: int) -> bool:
        """Put the item back in its place; return False, and do not, if the lease is over."""
    def renew(self, token: int, lease: float | None = None) -> bool:
        """Have the lease last for `lease` seconds more, or for the session."""
    def qsize(self) -> int:
        """Return how many items can be had."""
    def empty(self) -> bool:
        """Return whether none can be had."""
    def leases(self) -> int:
        """Return how many items are leased."""
    def __len__(self) -> int:
        """Return how many items there are, leased or not."""
