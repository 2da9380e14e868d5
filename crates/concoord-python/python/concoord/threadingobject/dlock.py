"""A lock inside a replicated object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from concoord import _waits
from concoord.threadingobject._queue import Queue

if TYPE_CHECKING:
    from concoord._waits import Client, Command

__all__ = ["DLock"]


class DLock(Queue):
    """A lock that any client may release, as in `threading`."""

    def __init__(self) -> None:
        """Begin unlocked."""
        super().__init__()
        self.holder: Client | None = None

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

    def _give(self, command: Command) -> None:
        self.holder = command.client
        self._note()

    def _pass_on(self) -> None:
        self.holder = None
        command = self._next()
        if command is not None:
            self._give(command)
            _waits.wake(command)
        self._note()

    def _is_owned(self) -> bool:
        return self.holder is not None

    def _release_of(self, session: int) -> None:
        if self.holder is not None and self.holder.session == session:
            self._pass_on()

    def __repr__(self) -> str:
        """Say whether it is locked."""
        return f"<{type(self).__name__} {'locked' if self.locked() else 'unlocked'}>"
