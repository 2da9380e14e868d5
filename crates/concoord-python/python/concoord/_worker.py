"""The process that hosts the objects of one replica: `python -m concoord._worker`.

Its standard input is a socket to the replica. `concoord._concoord.Worker` does the talking; what
Python must do is here: import the classes, keep the objects, fork to write their state down.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import inspect
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from concoord import _traceback, _waits
from concoord._concoord import Worker
from concoord._interface import COMMAND, CREATE, INIT, callables_of, interface_of, wants_command
from concoord._load import LoadError, load_class
from concoord._state import Everything, Form, States, words
from concoord.exception import BlockingReturn, ObjectRemovedError, UnblockingReturn

if TYPE_CHECKING:
    from concoord._waits import Timer

ENVIRONMENT = {"PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C.UTF-8"}
STARTED = "CONCOORD_WORKER"
ADDR_NO_RANDOMIZE = 0x0040000

LOST_HOOK, CANCELLED_HOOK = "__concoord_lost__", "__concoord_cancelled__"
"""What an object may define to learn that a session is over, or that a call waits no more."""

Key = tuple[str, str]
"""Class and name of an object; the class is empty for the first that the worker loaded."""

DEFAULT: Key = ("", "")


class Hosted:
    """A class that is hosted."""

    def __init__(self, name: str, world: Any) -> None:
        """Import it."""
        self.cls = load_class(name)
        self.interface = interface_of(self.cls)._replace(name=name)
        self.callables = callables_of(self.cls)
        self.commanded = {
            method for method, attribute in self.callables.items() if wants_command(attribute)
        }
        self._world = world
        self.form = Form(self.cls, self.make_apart)

    def make(self) -> Any:
        """Make an object as it is at first, before any entry."""
        self._world.begin(0, 0)
        try:
            return self.cls()
        finally:
            self._world.end()

    def make_apart(self) -> Any:
        """Make one that is none of those which are hosted, or not yet."""
        with _waits.apart():
            return self.make()

    def runtime(self) -> bytes:
        """Give the source of the class's module."""
        return Path(inspect.getfile(self.cls)).read_bytes()


class Host:
    """The objects, as the worker's loop sees them."""

    def __init__(self) -> None:
        """Host nothing yet."""
        # Only here, where it is meant: to import it changes nothing, to install it does.
        self._world = importlib.import_module("concoord._determinism")
        self._world.install()
        self._draws = self._world.draws
        self.end = self._world.end
        self._classes: dict[str, Hosted] = {}
        self._objects: dict[Key, Any] = {}
        self._methods: dict[Key, dict[str, Any]] = {}
        self._states = States(lambda key: self._hosted(key).form)
        self.tells = False

    def load(self, names: list[str]) -> tuple[list[Any], str]:
        """Import the classes and make the first object.

        Returns their interfaces and what must be alike on all replicas.
        """
        self._world.begin(0, 0)
        self._world.end()
        for name in names:
            hosted = Hosted(name, self._world)
            _waits.current().key = DEFAULT
            try:
                made = hosted.make_apart() if self._classes else hosted.make()
            except (Exception, SystemExit) as error:
                message = f"{name}() can't be made without arguments: {words(error)}"
                raise LoadError(message) from error
            hosted.form.check(name, made)
            if not self._classes:
                # Where the cluster was started with another class, this one goes by its name, too.
                self._classes[""] = hosted
                self._become(DEFAULT, made)
            self._classes[name] = hosted
        classes = [self._classes[name] for name in dict.fromkeys(names)]
        self.tells = any(hosted.commanded for hosted in classes)
        return [hosted.interface for hosted in classes], _runtime(classes)

    @property
    def methods(self) -> dict[str, Any]:
        """What can be called of the first object."""
        return self._methods[DEFAULT]

    def methods_of(self, of: str, name: str) -> dict[str, Any]:
        """Give what can be called of an object, which is made if there is none."""
        key = (of, name)
        if key not in self._methods:
            self._become(key, self._make(key))
        return self._methods[key]

    def create(self, of: str, name: str) -> dict[str, Any]:
        """Give what makes an object with arguments, if there is none."""
        key = (of, name)
        return {CREATE: _is_there if key in self._objects else functools.partial(self._init, key)}

    def look_at(self, of: str, name: str) -> dict[str, Any]:
        """Give what can be called of an object, to read it: none is made that stays."""
        key = (of, name)
        if key in self._methods:
            return self._methods[key]
        with _waits.apart():
            return self._bound(key, self._hosted(key).cls())

    def begin(self, index: int, time_ms: int, clock_ms: int, leaves_out: bool) -> None:
        """Enter an entry, or a further part of it: what is due by its clock comes first.

        Not where the first step is left out.
        """
        self._world.begin(index, time_ms)
        waits = _waits.current()
        for timer in waits.begin(index, clock_ms, leaves_out):
            waits.key = timer.key
            # One may have stopped another.
            if waits.stop_timer(timer.number):
                self._ring(timer)

    def begin_read(self, time_ms: int, /) -> None:
        """Enter calls that only read a state of that time."""
        self._world.begin_read(time_ms)
        waits = _waits.current()
        waits.step, waits.key = None, None

    def enter(self, step: tuple[int, int, int, str, Key | None], /) -> None:
        """Begin a step: session, number, thread, method, and the object where a client calls it."""
        # No other step of the entry changes what this one draws, whether or not that is run before
        # it, or is left out.
        self._draws.step = step
        waits = _waits.current()
        waits.step, waits.key = step, step[4]

    def raised(self, error: BaseException) -> tuple[bool, Any] | None:
        """Tell what an exception comes to that has to do with waiting."""
        if isinstance(error, BlockingReturn) and not self.tells:
            return None  # nobody could ever wake it
        return _waits.current().raised(error)

    def take_ended(self) -> list[tuple[int, int, Any]]:
        """Give the calls that were woken: session, number, what they return or raise."""
        ended = _waits.current().take_ended()
        return [(each.client.session, each.clientcommandnumber, how) for each, how in ended]

    def wake_at(self) -> int | None:
        """Tell when the next timer is due."""
        return _waits.current().wake_at()

    def lost(self, session: int) -> None:
        """Release what a session held, which is over."""
        _waits.current().lost(session)
        hooked = {of for of, hosted in self._classes.items() if hasattr(hosted.cls, LOST_HOOK)}
        for key in [key for key in self._objects if key[0] in hooked]:
            self._by_itself(key, LOST_HOOK, session)

    def cancel(self, session: int, sequence: int) -> bool:
        """Give up a call whose reply nobody wants; tell whether it was parked."""
        parked = _waits.current().cancel(session, sequence)
        if parked is None:
            return False
        if hasattr(self._hosted(parked.key).cls, CANCELLED_HOOK):
            self._by_itself(parked.key, CANCELLED_HOOK, parked.command)
        return True

    def remove(self, of: str, name: str) -> None:
        """Forget an object."""
        key = (of, name)
        self._objects.pop(key, None)
        self._methods.pop(key, None)
        _waits.current().forget_object(key, ObjectRemovedError(f"{name!r} was removed"))

    def snapshot(self, to: int, said: int) -> int:
        """Write the state to a pipe in another process, which sees it as it is now."""
        return self._states.write(self._everything(), to, said)

    def settle(self, to: int, said: int) -> int:
        """Become what a replica that takes the state in would be, and write that down."""
        state = self._states.dump(self._everything())
        self._take_in(self._states.read(state))
        return self._states.write_bytes(state, to, said)

    def reap(self, process: int) -> bool:
        """Take note of the end of a process that wrote the state; tell whether it was well."""
        _, status = os.waitpid(process, 0)
        return status == 0

    def restore(self, pipe: int) -> None:
        """Become what comes out of a pipe: what `snapshot` wrote on a replica of this cluster."""
        self._take_in(self._states.read_from(pipe))

    def _everything(self) -> Everything:
        return self._objects, _waits.current()

    def _take_in(self, everything: Everything) -> None:
        objects, waits = everything
        self._objects, self._methods = {}, {}
        _waits.become(waits)
        for key, made in objects.items():
            self._become(key, made)

    def _hosted(self, key: Key) -> Hosted:
        return self._classes[key[0]]

    def _become(self, key: Key, made: Any) -> None:
        self._objects[key] = made
        self._methods[key] = self._bound(key, made)

    def _bound(self, key: Key, made: Any) -> dict[str, Any]:
        hosted = self._hosted(key)
        bound = {
            name: attribute.__get__(made, hosted.cls)
            for name, attribute in hosted.callables.items()
        }
        for name in hosted.commanded:
            bound[name] = _commanded(bound[name])
        return {**bound, INIT: functools.partial(self._init, key)}

    def _make(self, key: Key, /, *args: Any, **kwargs: Any) -> Any:
        waits = _waits.current()
        before = waits.made
        try:
            return self._hosted(key).cls(*args, **kwargs)
        except BaseException:
            waits.undo(before)
            raise

    def _init(self, key: Key, /, *args: Any, **kwargs: Any) -> None:
        """Put a new object in the old one's place, if it can be made."""
        waits = _waits.current()
        before = waits.made
        made = self._make(key, *args, **kwargs)
        # As the objects that come ready-made do it.
        error = RuntimeError("it was initialised anew while the call waited")
        waits.forget_object(key, error, before)
        self._become(key, made)

    def _ring(self, timer: Timer) -> None:
        self._draws.step = ("timer", timer.number)
        self._by_itself(timer.key, timer.method, *timer.args, **timer.kwargs)

    def _by_itself(self, key: Key, method: str, /, *args: Any, **kwargs: Any) -> None:
        """Call what no client called for: what it raises is told and changes nothing else."""
        made = self._objects.get(key)
        if made is None:
            return
        waits = _waits.current()
        waits.step, waits.key = None, key
        try:
            try:
                getattr(made, method)(*args, **kwargs)
            except UnblockingReturn as error:
                waits.raised(error)
        except BaseException as error:
            # SystemExit, too: it is one object's fault, and the others have none.
            sys.stderr.write(_traceback.text(error) + "\n")


def _is_there(*_: Any, **__: Any) -> bool:
    """Tell that nothing was made."""
    return False


def _commanded(method: Any) -> Any:
    """Have a method be told who calls it."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **{**kwargs, COMMAND: _waits.current().command})

    return call


def _runtime(classes: list[Hosted]) -> str:
    """Tell what must be alike for the objects to behave alike: Python, and the modules' source."""
    # Whatever the order: only which one is the first makes a difference.
    first, *others = [(hosted.interface.name, hosted.runtime()) for hosted in classes]
    digest = hashlib.sha256()
    for name, source in [first, *sorted(others)]:
        digest.update(hashlib.sha256(name.encode()).digest() + hashlib.sha256(source).digest())
    version = f"python {sys.version_info.major}.{sys.version_info.minor}"
    return f"{version} sha256 {digest.hexdigest()}"


def _settle() -> None:
    """Start over once if hashes, addresses or the locale would differ between replicas."""
    wanted = {**ENVIRONMENT, STARTED: "1"}
    if STARTED in os.environ:
        del os.environ[STARTED]
        return
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        # Where a sandbox forbids it, only what prints or sorts addresses can tell.
        ctypes.CDLL(None).personality(ADDR_NO_RANDOMIZE)
    os.execve(sys.executable, sys.orig_argv, {**os.environ, **wanted})  # noqa: S606 - ourselves


def main() -> None:
    """Serve one replica until it is gone."""
    _settle()
    # Ctrl-C is for the replica, which ends its worker when it has left the view.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = Worker()
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    worker.serve(Host())


if __name__ == "__main__":
    main()
