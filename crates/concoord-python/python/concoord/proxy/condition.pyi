from collections.abc import Callable
from typing import Any

from concoord._held import Holder

__all__ = ["Condition"]

class Condition(Holder):
    """A condition with a lock of its own, which its holder may acquire again."""

    def __concoordinit__(self, lock: None = None) -> None:
        """Start anew.

        Send all away who wait for the lock, and raise RuntimeError where one waits to be notified.
        The lock is always the condition's own: `lock` must be None.
        """
    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Wait for the lock that the caller may hold already.

        Give up after `timeout` seconds unless that is -1. Return whether it was got.
        """
    def release(self) -> None:
        """Give the lock back once. Raise RuntimeError if the caller does not hold it."""
    def wait(self, timeout: float | None = None) -> bool:
        """Give up the lock, which the caller must hold, and wait to be notified.

        Stop waiting after `timeout` seconds. Return whether it was, once the lock is held again:
        under another token.
        """
    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Wait until `predicate`, which is called here, returns something true.

        Stop after `timeout` seconds. Return what it returned last. The lock must be held, as for
        `wait`, and is while the predicate runs.
        """
    def notify(self, n: int = 1) -> None:
        """Wake the `n` that have waited longest, for the caller's lock."""
    def notify_all(self) -> None:
        """Wake all that wait, for the caller's lock."""
    def notifyAll(self) -> None:  # noqa: N802 - the name of 2012
        """Wake all that wait, by the name of 2012."""
    def locked(self) -> bool:
        """Return whether somebody holds the lock."""
    def gettoken(self) -> int | None:
        """Return the fencing token of who holds the lock; None if nobody does."""
