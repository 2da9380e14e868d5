"""What clients have until they give it back, or are lost."""

from __future__ import annotations

from concoord import _waits
from concoord.threadingobject._queue import Queue


class Owned(Queue):
    """A queue for what is somebody's."""

    def _is_owned(self) -> bool:
        """Tell whether anybody has anything."""
        raise NotImplementedError

    def _note(self) -> None:
        """Make sure that this learns who is lost, while that matters."""
        _waits.current().note(self, self._is_owned())

    def _concoord_lost(self, session: int) -> None:
        """Release what that session has."""
        raise NotImplementedError
