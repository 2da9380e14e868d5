"""Classes as they were written for the first ConCoord, and ones that use what is new."""

import os
import random
import time

from concoord import call_later, cancel_later, readonly, wake
from concoord.exception import BlockingReturn, UnblockingReturn
from concoord.threadingobject.dbarrier import DBarrier
from concoord.threadingobject.dboundedsemaphore import DBoundedSemaphore
from concoord.threadingobject.dcondition import DCondition
from concoord.threadingobject.dlock import DLock
from concoord.threadingobject.drlock import DRLock
from concoord.threadingobject.dsemaphore import DSemaphore


class Locks:
    """One of each, passed through; the condition has a reentrant lock."""

    def __init__(self):
        self.lock = DLock()
        self.rlock = DRLock()
        self.semaphore = DSemaphore(2)
        self.bounded = DBoundedSemaphore()
        self.barrier = DBarrier(3)
        self.condition = DCondition()
        self.lost = []

    def acquire(self, which, _concoord_command):
        return getattr(self, which).acquire(_concoord_command)

    def release(self, which, _concoord_command):
        getattr(self, which).release(_concoord_command)

    @readonly
    def waiting(self, which):
        return len(getattr(self, which).queue)

    def meet(self, _concoord_command):
        return self.barrier.wait(_concoord_command)

    def wait(self, _concoord_command):
        self.condition.wait(_concoord_command)

    def wait_for(self, seconds, _concoord_command):
        call_later(seconds, "expire", _concoord_command)
        self.condition.wait(_concoord_command)

    def acquire_for(self, seconds, _concoord_command):
        call_later(seconds, "expire", _concoord_command)
        self.lock.acquire(_concoord_command)

    def expire(self, command):
        wake(command, TimeoutError("too late"))

    def wander(self, _concoord_command):
        try:
            self.lock.acquire(_concoord_command)
        except BlockingReturn:
            return "went on"

    def notify(self, _concoord_command):
        self.condition.notify(_concoord_command)

    def notifyAll(self, _concoord_command):  # noqa: N802
        self.condition.notifyAll(_concoord_command)

    def who(self, _concoord_command):
        return list(_concoord_command.client), _concoord_command.command

    def __repr__(self):
        return f"{self.lock!r} {self.semaphore!r}"

    def __concoord_lost__(self, session):
        self.lost.append(session)

    def who_was_lost(self):
        return self.lost


class Buffer:
    """A buffer of two, whose waiters are kept and woken by hand."""

    def __init__(self):
        self.items = []
        self.getters = []
        self.putters = []

    def put(self, item, _concoord_command):
        if self.getters:
            raise UnblockingReturn(None, {self.getters.pop(0): item})
        if len(self.items) == 2:
            self.putters.append((_concoord_command, item))
            raise BlockingReturn(None)
        self.items.append(item)

    def get(self, _concoord_command):
        if not self.items:
            self.getters.append(_concoord_command)
            raise BlockingReturn
        item = self.items.pop(0)
        if self.putters:
            command, waiting = self.putters.pop(0)
            self.items.append(waiting)
            raise UnblockingReturn(item, {command: True})
        return item

    def fail(self, _concoord_command):
        raise UnblockingReturn(len(self.getters), {each: KeyError("gone") for each in self.getters})

    def give_all(self, item, _concoord_command):
        raise UnblockingReturn(None, dict.fromkeys(self.getters, item))

    def __concoord_cancelled__(self, command):
        self.getters = [each for each in self.getters if each != command]


class Timed:
    """Waits that end by themselves, and a count that goes on."""

    def __init__(self):
        self.ticks = 0
        self.waiters = {}

    def begin(self, every):
        return call_later(every, "tick", every)

    def tick(self, every):
        self.ticks += 1
        call_later(every, "tick", every)

    def stop(self, number):
        return cancel_later(number)

    def count(self):
        return self.ticks

    def wait(self, seconds, _concoord_command):
        self.waiters[_concoord_command] = call_later(seconds, "expire", _concoord_command)
        raise BlockingReturn("woken")

    def expire(self, command):
        del self.waiters[command]
        wake(command, TimeoutError("too late"))

    def wake_all(self):
        for command, timer in self.waiters.items():
            cancel_later(timer)
            wake(command)
        self.waiters = {}

    def broken(self):
        call_later(1, "there_is_no_such_method")
        call_later(1, "fail")

    def fail(self):
        raise ValueError

    def broken_later(self):
        call_later(1, "leave")
        call_later(1, "tick", 100)

    def leave(self):
        raise SystemExit(3)

    def at_once(self):
        call_later(0, "again")

    def again(self):
        self.ticks += 1
        call_later(0, "again")

    def rivals(self):
        number = call_later(2, "count_up")
        call_later(1, "stop", number)

    def count_up(self):
        self.ticks += 1

    def wake_nothing(self, _concoord_command):
        error = UnblockingReturn(1)
        error.unblockeddict = 7
        raise error


class Grumpy:
    """Whose hooks go wrong in every way, and that keeps what it drew."""

    def __init__(self):
        self.drawn = []

    def wait(self, _concoord_command):
        raise BlockingReturn

    def __concoord_lost__(self, session):
        self._draw()
        raise SystemExit(1)

    def __concoord_cancelled__(self, command):
        self._draw()
        raise BlockingReturn

    def later(self):
        call_later(0, "draw_later")

    def draw_later(self):
        self._draw()

    def draws(self):
        return self.drawn

    def _draw(self):
        self.drawn.append((random.random(), time.time()))


class Silent:
    """That is not told who calls."""

    def __init__(self):
        self.heard = []
        call_later(3, "hear", "as it was made")

    def later(self, what):
        call_later(1, "hear", what)

    def hear(self, what):
        self.heard.append(what)

    def all(self):
        return self.heard


class Alarm:
    """That rings by itself, from when it is made."""

    def __init__(self):
        self.count = 0
        call_later(0.1, "ring")

    def ring(self):
        self.count += 1

    @readonly
    def rung(self):
        return self.count


class Deadly:
    """One of whose timers ends the process, and one not."""

    def __init__(self):
        self.count = 0

    def arm(self):
        call_later(0.1, "fall")
        call_later(0.1, "ring")

    def fall(self):
        os._exit(7)

    def ring(self):
        self.count += 1

    @readonly
    def rung(self):
        return self.count


class Refuses:
    """That can't always be made."""

    def __init__(self, how=""):
        call_later(1, "hear")
        self.heard = 0
        if how == "exit":
            raise SystemExit(5)

    def hear(self):
        self.heard += 1

    def count(self):
        return self.heard
