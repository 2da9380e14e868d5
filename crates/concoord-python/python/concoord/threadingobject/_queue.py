"""What all of these have in common: owners, and calls that queue."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NoReturn

from concoord import _waits
from concoord.exception import BlockingReturn

if TYPE_CHECKING:
    from concoord._waits import Command


class Queue:
    """Calls that wait, first come first served."""

    def __init__(self) -> None:
        """Begin with none."""
        self.queue: OrderedDict[Command, int] = OrderedDict()
        """The calls, each with how often it will have what it waits for."""

    def _wait(self, command: Command, count: int = 1) -> NoReturn:
        """Have the call wait, which ends the method."""
        self.queue[command] = count
        # It returns what the method would have returned without waiting.
        blocking = BlockingReturn(True)
        blocking.__dict__[_waits.QUEUE] = self
        raise blocking

    def _wake_next(self) -> tuple[Command, int] | None:
        """Wake the call that has waited longest, and does still; return it."""
        while self.queue:
            command, count = self.queue.popitem(last=False)
            # A method may have come here to wait, and have gone on all the same.
            if _waits.wake(command):
                return command, count
        return None

    def _concoord_left(self, command: Command) -> None:
        """Forget a call that waits no more: it was woken, is cancelled, or its client is lost."""
        self.queue.pop(command, None)
