"""A reentrant lock inside a replicated object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from concoord.threadingobject.dlock import DLock

if TYPE_CHECKING:
    from concoord._waits import Client, Command

__all__ = ["DRLock"]


class DRLock(DLock):
    """A lock that its owner, a thread or task of a client, may take again."""

    def __init__(self) -> None:
        """Begin unlocked."""
        super().__init__()
        self.count = 0

    def acquire(self, _concoord_command: Command) -> bool:
        """Take the lock once more, or wait for it."""
        if self._is_owned_by(_concoord_command.client):
            self.count += 1
            return True
        return super().acquire(_concoord_command)

    def release(self, _concoord_command: Command | None = None) -> None:
        """Let go of it once; the last time gives it to who has waited longest."""
        client = None if _concoord_command is None else _concoord_command.client
        if self.holder is None or (client is not None and not self._is_owned_by(client)):
            message = "cannot release un-acquired lock"
            raise RuntimeError(message)
        self.count -= 1
        if self.count == 0:
            self._pass_on()

    def _give(self, command: Command, count: int = 1) -> None:
        self.count = count
        super()._give(command)

    def _count(self) -> int:
        return self.count

    def _pass_on(self) -> None:
        self.count = 0
        super()._pass_on()

    def _is_owned_by(self, client: Client) -> bool:
        return self.holder == client
