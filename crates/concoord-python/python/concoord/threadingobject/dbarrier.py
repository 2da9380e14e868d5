"""A barrier inside a replicated object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from concoord.threadingobject._queue import Queue

if TYPE_CHECKING:
    from concoord._waits import Command

__all__ = ["DBarrier"]


class DBarrier(Queue):
    """A point that so many calls must reach before any of them goes on, again and again."""

    def __init__(self, count: int = 1) -> None:
        """Begin with nobody there."""
        super().__init__()
        if count < 1:
            message = "parties must be > 0"
            raise ValueError(message)
        self.count = int(count)

    def wait(self, _concoord_command: Command) -> bool:
        """Wait until all are there."""
        if len(self.queue) + 1 < self.count:
            self._wait(_concoord_command)
        while self._wake_next() is not None:
            pass
        return True
