"""A semaphore inside a replicated object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from concoord.threadingobject._owned import Owned

if TYPE_CHECKING:
    from concoord._waits import Client, Command

__all__ = ["DSemaphore"]


class DSemaphore(Owned):
    """A number of permits; any client may release one."""

    def __init__(self, count: int = 1) -> None:
        """Begin with so many permits."""
        super().__init__()
        if count < 0:
            message = "semaphore initial value must be >= 0"
            raise ValueError(message)
        self.count = int(count)
        self.holders: dict[Client, int] = {}

    def acquire(self, _concoord_command: Command) -> bool:
        """Take a permit, or wait for one."""
        if self.count == 0:
            self._wait(_concoord_command)
        self.count -= 1
        self._give(_concoord_command)
        return True

    def release(self, _concoord_command: Command | None = None) -> None:
        """Give a permit back: to who has waited longest, if anybody has."""
        client = None if _concoord_command is None else _concoord_command.client
        if client not in self.holders:
            # Whoever releases it, as in `threading`, it is one less of the first who has any.
            client = next(iter(self.holders), None)
        if client is not None:
            self._take_back(client)
        self._pass_on()

    def _give(self, command: Command) -> None:
        self.holders[command.client] = self.holders.get(command.client, 0) + 1
        self._note()

    def _take_back(self, client: Client) -> None:
        self.holders[client] -= 1
        if self.holders[client] == 0:
            del self.holders[client]

    def _pass_on(self) -> None:
        woken = self._wake_next()
        if woken is None:
            self.count += 1
            self._note()
        else:
            self._give(woken[0])

    def _is_owned(self) -> bool:
        return bool(self.holders)

    def _concoord_lost(self, session: int) -> None:
        for client in [each for each in self.holders if each.session == session]:
            for _ in range(self.holders.pop(client)):
                self._pass_on()

    def __repr__(self) -> str:
        """Say how many permits are left."""
        return f"<{type(self).__name__} count={self.count}>"
