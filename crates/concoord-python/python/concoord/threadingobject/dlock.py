"""A lock inside a replicated object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from concoord import _waits
from concoord.threadingobject._owned import Owned

if TYPE_CHECKING:
    from concoord._waits import Client, Command
    from concoord.threadingobject.dcondition import DCondition

__all__ = ["DLock"]


class DLock(Owned):
    """A lock that any client may release, as in `threading`."""

    def __init__(self) -> None:
        """Begin unlocked."""
        super().__init__()
        self.holder: Client | None = None
        self.notified: dict[Command, DCondition] = {}
        """Calls in the queue that waited at a condition, and were notified."""

    def acquire(self, _concoord_command: Command) -> bool:
        """Take the lock, or wait for it."""
        if self.holder is not None:
            self._wait(_concoord_command)
        self._give(_concoord_command)
        return True

    def release(self, _concoord_command: Command | None = None) -> None:
        """Give the lock to who has waited longest."""
        if self.holder is None:
            message = "cannot release un-acquired lock"
            raise RuntimeError(message)
        self._pass_on()

    def locked(self) -> bool:
        """Tell whether somebody has it."""
        return self.holder is not None

    def _give(self, command: Command, count: int = 1) -> None:
        self.holder = command.client
        self._note()

    def _count(self) -> int:
        """Tell how often its holder has it."""
        return 1

    def _pass_on(self) -> None:
        """Give it to who has waited longest, however often who had it took it."""
        self.holder = None
        if (woken := self._wake_next()) is not None:
            self._give(*woken)
        self._note()

    def _want_back(self, command: Command, count: int, condition: DCondition) -> bool:
        """Queue a call that was notified, if it waits still; tell whether it does."""
        if not _waits.current().move(command, self):
            return False
        self.queue[command] = count
        self.notified[command] = condition
        return True

    def _concoord_left(self, command: Command) -> None:
        condition = self.notified.pop(command, None)
        # One that this woke is out of the queue already: it makes use of being notified.
        if self.queue.pop(command, None) is not None and condition is not None:
            condition._notify_one()  # noqa: SLF001 - another one must hear of it

    def _is_owned(self) -> bool:
        return self.holder is not None

    def _concoord_lost(self, session: int) -> None:
        if self.holder is not None and self.holder.session == session:
            self._pass_on()

    def __repr__(self) -> str:
        """Say whether it is locked."""
        return f"<{type(self).__name__} {'locked' if self.locked() else 'unlocked'}>"
