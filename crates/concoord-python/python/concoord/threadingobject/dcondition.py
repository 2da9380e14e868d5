"""A condition variable inside a replicated object."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from concoord.threadingobject._queue import Queue
from concoord.threadingobject.drlock import DRLock

if TYPE_CHECKING:
    from concoord._waits import Client, Command
    from concoord.threadingobject.dlock import DLock

__all__ = ["DCondition"]


class DCondition(Queue):
    """A lock, and calls that wait for something to be told while they don't have it.

    As in `threading`, a call that was notified has the lock again when it returns, as often as it
    had it before.
    """

    def __init__(self, lock: DLock | None = None) -> None:
        """Begin with that lock, or one of its own."""
        super().__init__()
        self.lock = DRLock() if lock is None else lock

    def acquire(self, _concoord_command: Command) -> bool:
        """Take the lock, or wait for it."""
        return self.lock.acquire(_concoord_command)

    def release(self, _concoord_command: Command | None = None) -> None:
        """Let go of the lock."""
        self.lock.release(_concoord_command)

    def wait(self, _concoord_command: Command) -> NoReturn:
        """Let go of the lock, and wait to be notified and to have it again."""
        self._must_own(_concoord_command.client, "wait on")
        count = self.lock._count()  # noqa: SLF001 - made for this
        self.lock._pass_on()  # noqa: SLF001 - as above
        self._wait(_concoord_command, count)

    def notify(self, _concoord_command: Command | None = None, n: int = 1) -> None:
        """Have the calls that have waited longest go on, once they can have the lock."""
        self._must_own(None if _concoord_command is None else _concoord_command.client, "notify on")
        for _ in range(n):
            if not self._notify_one():
                break

    def notifyAll(self, _concoord_command: Command | None = None) -> None:  # noqa: N802
        """Have all calls go on that wait, one after the other."""
        self.notify(_concoord_command, len(self.queue))

    notify_all = notifyAll

    def _notify_one(self) -> bool:
        """Have the call that has waited longest want the lock; tell whether there was one."""
        while self.queue:
            command, count = self.queue.popitem(last=False)
            if self.lock._want_back(command, count, self):  # noqa: SLF001 - made for this
                return True
        return False

    def _must_own(self, client: Client | None, what: str) -> None:
        if self.lock.holder is None or (client is not None and self.lock.holder != client):
            message = f"cannot {what} un-acquired lock"
            raise RuntimeError(message)
