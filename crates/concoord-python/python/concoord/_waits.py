"""What the calls of hosted objects wait for: others, and time.

One `Waits` a worker: which calls are parked, which timers are set, which objects of
`concoord.threadingobject` have an owner or a queue. It is part of the state: all replicas agree on
it, and a snapshot holds it.
"""

from __future__ import annotations

import bisect
import contextlib
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from concoord.exception import BlockingReturn, UnblockingReturn

if TYPE_CHECKING:
    from collections.abc import Iterator


SUSPICIONS = 3
"""Entries in a row whose first step is left out, with timers due, after which one of those is."""

QUEUE = "_concoord_queue"
"""What a `BlockingReturn` of `concoord.threadingobject` has more than others: its `Queue`."""


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


class Queue(Protocol):
    """Where calls wait, such as a `DLock`."""

    def _concoord_left(self, command: Command) -> None: ...


class Owned(Protocol):
    """What has owners."""

    def _concoord_lost(self, session: int) -> None: ...


class Parked(NamedTuple):
    """A call that waits."""

    command: Command
    key: Any
    """At which object."""
    value: Any
    """What it returns, unless who wakes it says otherwise."""
    queue: Queue | None
    """Who is to forget it when it waits no more."""


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
        self._parked: dict[tuple[int, int], Parked] = {}
        self._timers: list[Timer] = []
        self._owned: dict[int, tuple[Any, Owned]] = {}
        self.made = 0
        self._index = 0
        self._suspicion = 0
        self._forget()

    def _forget(self) -> None:
        self._ended: list[tuple[Command, Any]] = []
        self._due = {timer.number: timer.due for timer in self._timers}
        self.clock = 0
        self.step: tuple[Any, ...] | None = None
        self.key: Any = None

    @property
    def command(self) -> Command | None:
        """The call at hand, if it is a client's."""
        # Made when it is asked for: most methods are told of none.
        if self.step is None or self.key is None:
            return None
        session, number, thread, method, _ = self.step
        return Command(Client(session, thread), number, method)

    def __getstate__(self) -> tuple[Any, ...]:
        """Leave out what is only of the step at hand."""
        kept = self._parked, self._timers, self._owned, self.made
        return *kept, self._index, self._suspicion

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take it in."""
        self._parked, self._timers, self._owned, self.made = state[:4]
        self._index, self._suspicion = state[4:]
        self._forget()

    def begin(self, index: int, clock: int, leaves_out: bool) -> list[Timer]:
        """Enter an entry; return the timers that are due, to be rung if they are not stopped.

        An entry may come in parts, which are not the same on all replicas: only the first tells.
        """
        self.clock = max(self.clock, clock)
        if index == self._index:
            return []
        self._index = index
        # As they are now: what these set is for a later entry, or they might never end.
        due = self._timers[: bisect.bisect_right(self._timers, self.clock, key=lambda it: it.due)]
        if leaves_out:
            self._spare(due)
            return []
        self._suspicion = 0
        return due

    def _spare(self, due: list[Timer]) -> None:
        # Workers died at the first step of the entry: of that, or of what rang before it.
        self._suspicion += bool(due)
        if self._suspicion == SUSPICIONS:
            self._suspicion = 0
            self.key = due[0].key
            self.stop_timer(due[0].number)
            words = f"{due[0].method}, which was to be called later, kills workers: it is left out"
            sys.stderr.write(words + "\n")

    def note(self, owned: Owned, is_owned: bool) -> None:
        """Note whether something has owners, so that it learns who is lost."""
        # By number only while it is: what has never been used is as it was made.
        number = owned.__dict__.get("_number")
        if is_owned and number is None:
            number = owned.__dict__["_number"] = self._number()
            self._owned[number] = self.key, owned
        elif number is not None and not is_owned:
            del owned.__dict__["_number"]
            del self._owned[number]

    def _number(self) -> int:
        self.made += 1
        return self.made

    def move(self, command: Command, queue: Queue) -> bool:
        """Have a parked call wait in another queue; tell whether it was one."""
        parked = self._parked.get(_which(command))
        if parked is None:
            return False
        self._parked[_which(command)] = parked._replace(queue=queue)
        return True

    def wake(self, command: Command, value: Any = True) -> bool:
        """End a parked call; tell whether it was one."""
        self._must_change("wake")
        if not isinstance(command, Command):
            return False
        parked = self._parked.pop(_which(command), None)
        if parked is None:
            return False
        self._ended.append((parked.command, parked.value if value is True else value))
        _leave(parked)
        return True

    def raised(self, error: BaseException) -> tuple[bool, Any] | None:
        """Tell what a `BlockingReturn` or `UnblockingReturn` comes to: parked or not, the value."""
        if isinstance(error, BlockingReturn):
            command = self.command
            if command is None:
                return None
            queue = error.__dict__.get(QUEUE)
            self._parked[_which(command)] = Parked(command, self.key, error.returnvalue, queue)
            return True, None
        if isinstance(error, UnblockingReturn):
            for command, value in dict(error.unblockeddict).items():
                self.wake(command, value)
            return False, error.returnvalue
        return None

    def take_ended(self) -> list[tuple[Command, Any]]:
        """Give the calls that were woken in this step, in order."""
        ended, self._ended = self._ended, []
        return ended

    def lost(self, session: int) -> None:
        """Release what a session held, and send its calls away: it is over."""
        which = [each for each in self._parked if each[0] == session]
        # All of them first: what one leaves must not be another one's.
        for parked in [self._parked.pop(each) for each in which]:
            self.key = parked.key
            _leave(parked)
        for _, (key, owned) in sorted(self._owned.items(), key=lambda item: item[0]):
            self.key = key
            owned._concoord_lost(session)  # noqa: SLF001 - made for this

    def cancel(self, session: int, number: int) -> Parked | None:
        """Send a parked call away, whichever thread's it is; return it."""
        parked = self._parked.pop((session, number), None)
        if parked is not None:
            self.key = parked.key
            _leave(parked)
        return parked

    def set_timer(self, seconds: float, method: str, args: Any, kwargs: Any) -> int:
        """Have the object at hand call itself later."""
        self._must_change("call_later")
        due = self.clock + max(0, -int(-seconds * 1000 // 1))
        timer = Timer(due, self._number(), self.key, method, args, kwargs)
        bisect.insort(self._timers, timer, key=lambda each: each[:2])
        self._due[timer.number] = due
        return timer.number

    def stop_timer(self, number: int) -> bool:
        """Stop a timer; tell whether it was still to come."""
        self._must_change("cancel_later")
        due = self._due.pop(number, None)
        if due is None:
            return False
        at = bisect.bisect_left(self._timers, (due, number), key=lambda each: each[:2])
        del self._timers[at]
        return True

    def wake_at(self) -> int | None:
        """Tell when the next timer is due."""
        return self._timers[0].due if self._timers else None

    def forget_object(self, key: Any, error: BaseException, made: int | None = None) -> None:
        """Drop what an object set and owned; calls that wait there raise that.

        What was made after that number stays: it is of the object that comes in its place.
        """
        made = self.made if made is None else made
        which = [each for each, parked in self._parked.items() if parked.key == key]
        gone = [self._parked.pop(each) for each in which]
        self._ended += [(parked.command, error) for parked in gone]
        for parked in gone:
            _leave(parked)
        for number, (of, owned) in list(self._owned.items()):
            if of == key and number <= made:
                del self._owned[number], owned.__dict__["_number"]
        self._stop(lambda timer: timer.key == key and timer.number <= made)

    def undo(self, made: int) -> None:
        """Stop the timers that were set after that number: what set them failed."""
        self._stop(lambda timer: timer.number > made)

    def _must_change(self, what: str) -> None:
        if self.key is None:
            message = f"{what} is for methods of replicated objects that may change them"
            raise RuntimeError(message)

    def _stop(self, is_over: Any) -> None:
        self._timers = [each for each in self._timers if not is_over(each)]
        self._due = {timer.number: timer.due for timer in self._timers}


def _which(command: Command) -> tuple[int, int]:
    return command.client.session, command.clientcommandnumber


def _leave(parked: Parked) -> None:
    if parked.queue is not None:
        parked.queue._concoord_left(parked.command)  # noqa: SLF001 - made for this


_current = Waits()


def current() -> Waits:
    """Give what is waited for in this process."""
    return _current


def become(waits: Waits) -> None:
    """Put another one in its place: this worker takes a state in."""
    global _current
    _current = waits


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Let an object that is only looked at set timers as it is made: they never ring."""
    global _current
    kept, _current = _current, Waits()
    _current.key = kept.key or ("", "")
    try:
        yield
    finally:
        _current = kept


def call_later(seconds: float, method: str, /, *args: Any, **kwargs: Any) -> int:
    """Have the object at hand call one of its own methods after some seconds, in its turn.

    To be used in a method of a replicated object; returns a number for `cancel_later`. The call
    comes on all replicas alike, between two calls of clients, by a clock that stands still while
    the cluster has no leader: however few seconds, not before the next entry of the log. What it
    returns is dropped.
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
