"""What the calls of hosted objects wait for: others, and time.

One `Waits` a worker: which calls are parked, which timers are set, which objects of
`concoord.threadingobject` have an owner or a queue. It is part of the state: all replicas agree on
it, and a snapshot holds it.
"""

from __future__ import annotations

import bisect
from typing import Any, NamedTuple, Protocol

from concoord.exception import BlockingReturn, UnblockingReturn


class Client(NamedTuple):
    """Who calls: a thread or task of a client. The same for all of its calls."""

    session: int
    """The client's session, which ends when the client is gone."""
    thread: int
    """Which of the client's threads or tasks."""


class Command(NamedTuple):
    """A call, as the object sees it that is called with `_concoord_command`."""

    client: Client
    clientcommandnumber: int
    """The number of the call in the client's session."""
    command: str
    """The method."""


class Waiter(Protocol):
    """What has owners and queues of its own, such as a `DLock`."""

    def _concoord_lost(self, session: int) -> None: ...
    def _concoord_cancelled(self, command: Command) -> None: ...


class Timer(NamedTuple):
    """A call that the object makes of itself."""

    due: int
    """When, by the cluster's clock, milliseconds."""
    number: int
    key: Any
    """Of which object."""
    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Waits:
    """What is waited for in one worker."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._parked: dict[Command, tuple[Any, Any]] = {}
        self._timers: list[Timer] = []
        self._busy: dict[int, Waiter] = {}
        self._made = 0
        self._forget()

    def _forget(self) -> None:
        self._ended: list[tuple[Command, Any]] = []
        self.clock = 0
        self.command: Command | None = None
        self.key: Any = None

    def __getstate__(self) -> tuple[Any, ...]:
        """Leave out what is only of the step at hand."""
        return self._parked, self._timers, self._busy, self._made

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take it in."""
        self._parked, self._timers, self._busy, self._made = state
        self._forget()

    def note(self, waiter: Waiter, is_busy: bool) -> None:
        """Note whether something has owners or a queue, so that it learns who is lost."""
        # By number only while it is: what has never been used is as it was made.
        number = waiter.__dict__.pop("_number", None)
        if is_busy:
            number = self._number() if number is None else number
            waiter.__dict__["_number"] = number
            self._busy[number] = waiter
        elif number is not None:
            del self._busy[number]

    def _number(self) -> int:
        self._made += 1
        return self._made

    def park(self, command: Command, value: Any) -> None:
        """Have the call wait; it returns `value` when it is woken with nothing else to return."""
        self._parked[command] = (self.key, value)

    def wake(self, command: Command, value: Any = True) -> bool:
        """End a parked call; tell whether it was one."""
        if command not in self._parked:
            return False
        _, own = self._parked.pop(command)
        self._ended.append((command, own if value is True else value))
        return True

    def raised(self, error: BaseException) -> tuple[bool, Any] | None:
        """Tell what a `BlockingReturn` or `UnblockingReturn` comes to: parked or not, the value."""
        if isinstance(error, BlockingReturn):
            if self.command is None:
                return None
            self.park(self.command, error.returnvalue)
            return True, None
        if isinstance(error, UnblockingReturn):
            for command, value in error.unblockeddict.items():
                self.wake(command, value)
            return False, error.returnvalue
        return None

    def take_ended(self) -> list[tuple[Command, Any]]:
        """Give the calls that were woken in this step, in order."""
        ended, self._ended = self._ended, []
        return ended

    def lost(self, session: int) -> None:
        """Release what a session held, and send its calls away: it is over."""
        for command in [each for each in self._parked if each.client.session == session]:
            del self._parked[command]
        for _, waiter in sorted(self._busy.items()):
            waiter._concoord_lost(session)  # noqa: SLF001 - made for this

    def cancel(self, command: Command) -> Command | None:
        """Send a parked call away; return it as it was parked."""
        found = [each for each in self._parked if each[:2] == command[:2]]
        for each in found:
            del self._parked[each]
            for _, waiter in sorted(self._busy.items()):
                waiter._concoord_cancelled(each)  # noqa: SLF001 - made for this
        return found[0] if found else None

    def set_timer(self, seconds: float, method: str, args: Any, kwargs: Any) -> int:
        """Have the object at hand call itself later."""
        if self.key is None:
            message = "call_later is for methods of replicated objects that may change them"
            raise RuntimeError(message)
        due = self.clock + max(0, -int(-seconds * 1000 // 1))
        timer = Timer(due, self._number(), self.key, method, args, kwargs)
        bisect.insort(self._timers, timer, key=lambda each: each[:2])
        return timer.number

    def stop_timer(self, number: int) -> bool:
        """Stop a timer; tell whether it was still to come."""
        kept = [each for each in self._timers if each.number != number]
        stopped = len(kept) < len(self._timers)
        self._timers = kept
        return stopped

    def take_due(self) -> Timer | None:
        """Give the next timer that is due, if one is."""
        if self._timers and self._timers[0].due <= self.clock:
            return self._timers.pop(0)
        return None

    def wake_at(self) -> int | None:
        """Tell when the next timer is due."""
        return self._timers[0].due if self._timers else None

    def forget_object(self, key: Any, error: BaseException) -> None:
        """Drop the timers of an object that is removed; calls that wait there raise that."""
        for command in [each for each, (at, _) in self._parked.items() if at == key]:
            self.wake(command, error)
        self._timers = [each for each in self._timers if each.key != key]

    def is_parked(self, command: Command) -> bool:
        """Tell whether a call waits."""
        return command in self._parked


_current = Waits()


def current() -> Waits:
    """Give what is waited for in this process."""
    return _current


def become(waits: Waits) -> None:
    """Put another one in its place: this worker takes a state in."""
    global _current
    _current = waits


def call_later(seconds: float, method: str, /, *args: Any, **kwargs: Any) -> int:
    """Have the object at hand call one of its own methods after some seconds, in its turn.

    To be used in a method of a replicated object; returns a number for `cancel_later`. The call
    comes on all replicas alike, between two calls of clients, by a clock that stands still while
    the cluster has no leader. What it returns is dropped.
    """
    return _current.set_timer(seconds, method, args, kwargs)


def cancel_later(number: int, /) -> bool:
    """Stop what `call_later` set; tell whether it was still to come."""
    return _current.stop_timer(number)


def wake(command: Command, value: Any = True, /) -> bool:
    """End a call that was parked by `BlockingReturn`; tell whether it was.

    It returns `value`, or raises it if that is an exception; `True` stands for what its
    `BlockingReturn` said.
    """
    return _current.wake(command, value)
