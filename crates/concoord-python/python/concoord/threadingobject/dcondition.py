"""A condition variable inside a replicated object."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from concoord import _waits
from concoord.threadingobject._queue import Queue
from concoord.threadingobject.drlock import DRLock

if TYPE_CHECKING:
    from concoord._waits import Client, Command
    from concoord.threadingobject.dlock import DLock

__all__ = ["DCondition"]


class DCondition(Queue):
    """A lock, and calls that wait for something to be told while they don't have it.

    As in `threading`, a call that was notified has the lock again when it returns.
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
        self.lock._pass_on()  # noqa: SLF001 - however often it was taken
        self._wait(_concoord_command)

    def notify(self, _concoord_command: Command | None = None, n: int = 1) -> None:
        """Have the calls that have waited longest go on, once they can have the lock."""
        self._must_own(None if _concoord_command is None else _concoord_command.client, "notify on")
        for _ in range(n):
            command = self._next()
            if command is None:
                break
            self._want_lock(command)
        self._note()

    def notifyAll(self, _concoord_command: Command | None = None) -> None:  # noqa: N802
        """Have all calls go on that wait, one after the other."""
        self.notify(_concoord_command, len(self.queue))

    notify_all = notifyAll

    def _want_lock(self, command: Command) -> None:
        if self.lock.holder is None:
            self.lock._give(command)  # noqa: SLF001 - as `acquire` would, for another call
            _waits.wake(command)
        else:
            self.lock.queue.append(command)
            self.lock._note()  # noqa: SLF001 - as above

    def _must_own(self, client: Client | None, what: str) -> None:
        if self.lock.holder is None or (client is not None and self.lock.holder != client):
            message = f"cannot {what} un-acquired lock"
            raise RuntimeError(message)
