"""What all of these have in common: owners, and calls that queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from concoord import _waits
from concoord.exception import BlockingReturn

if TYPE_CHECKING:
    from concoord._waits import Command


class Queue:
    """Calls that wait, first come first served."""

    def __init__(self) -> None:
        """Begin with none."""
        self.queue: list[Command] = []

    def _wait(self, command: Command) -> NoReturn:
        """Have the call wait, which ends the method."""
        self.queue.append(command)
        self._note()
        # It returns what the method would have returned without waiting.
        raise BlockingReturn(True)

    def _next(self) -> Command | None:
        """Take the call that has waited longest."""
        return self.queue.pop(0) if self.queue else None

    def _is_owned(self) -> bool:
        """Tell whether anybody has anything."""
        return False

    def _note(self) -> None:
        """Make sure that this learns who is lost, while that matters."""
        _waits.current().note(self, bool(self.queue) or self._is_owned())

    def _concoord_lost(self, session: int) -> None:
        self.queue = [each for each in self.queue if each.client.session != session]
        self._release_of(session)
        self._note()

    def _concoord_cancelled(self, command: Command) -> None:
        self.queue = [each for each in self.queue if each != command]
        self._note()

    def _release_of(self, session: int) -> None:
        """Release what that session has."""
