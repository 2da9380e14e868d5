from typing import Any

from concoord import Proxy

__all__ = ["PriorityQueue"]

class PriorityQueue(Proxy):
    """A queue whose least item comes first; of equal ones that which was put first."""

    def __concoordinit__(self, maxsize: int = 0) -> None:
        """Start anew, empty; who waits to get or to put goes on in the new queue."""
    def put(self, item: object, block: bool = True, timeout: float | None = None) -> None:
        """Put `item`.

        If the queue is full, wait for room, for `timeout` seconds at most if that is given; raise
        queue.Full without room then, or at once if not `block`.
        """
    def put_nowait(self, item: object) -> None:
        """Put `item`, or raise queue.Full."""
    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the next item and return it.

        If there is none, wait, for `timeout` seconds at most if that is given; raise queue.Empty
        without one then, or at once if not `block`.
        """
    def get_nowait(self) -> Any:
        """Take the next item, or raise queue.Empty."""
    def task_done(self) -> None:
        """Say that an item which was taken is done with."""
    def join(self) -> None:
        """Wait until all that was put has been done with."""
    def qsize(self) -> int:
        """Return how many items there are."""
    def empty(self) -> bool:
        """Return whether there is none."""
    def full(self) -> bool:
        """Return whether there are `maxsize` of them."""
    def __len__(self) -> int:
        """Return how many items there are."""
