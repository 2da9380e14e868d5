"""A bounded semaphore inside a replicated object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from concoord.threadingobject.dsemaphore import DSemaphore

if TYPE_CHECKING:
    from concoord._waits import Command

__all__ = ["DBoundedSemaphore"]


class DBoundedSemaphore(DSemaphore):
    """A number of permits that never become more."""

    def __init__(self, count: int = 1) -> None:
        """Begin with so many permits, which are all there will be."""
        super().__init__(count)
        self._initial = self.count

    def release(self, _concoord_command: Command | None = None) -> None:
        """Give a permit back, of those that were taken."""
        if self.count >= self._initial:
            message = "Semaphore released too many times"
            raise ValueError(message)
        super().release(_concoord_command)
