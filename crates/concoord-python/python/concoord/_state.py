"""Writing the state of all objects down, and reading it back.

They are pickled together, with what their calls wait for: what two of them share they share again.
A class may say what is to be pickled: `__concoord_snapshot__` returns that, and
`__concoord_restore__` takes it in on an object that was just made.
"""

from __future__ import annotations

import gc
import os
import pickle
import struct
from typing import TYPE_CHECKING, Any

from concoord._load import LoadError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SNAPSHOT, RESTORE = "__concoord_snapshot__", "__concoord_restore__"
DEPTH_MAX = 32


class Form:
    """How the objects of a class are written down and read back."""

    def __init__(self, cls: type, make: Callable[[], Any]) -> None:
        """Take the class, and what makes an object of it as the worker does at first."""
        self._class = cls
        self._make = make
        has = [hasattr(cls, hook) for hook in (SNAPSHOT, RESTORE)]
        if has[0] != has[1]:
            there, absent = (SNAPSHOT, RESTORE) if has[0] else (RESTORE, SNAPSHOT)
            message = f"{cls.__qualname__} defines {there} but no {absent}: it needs both or none"
            raise LoadError(message)
        self._hooked = has[0]

    def outside(self, made: Any) -> Any:
        """Give what is pickled of an object."""
        return getattr(made, SNAPSHOT)() if self._hooked else made

    def inside(self, value: Any) -> Any:
        """Make an object of what `outside` gave."""
        if self._hooked:
            made = self._make()
            getattr(made, RESTORE)(value)
            return made
        if type(value) is not self._class:
            message = f"the state is of {type(value).__qualname__}"
            raise TypeError(message)
        return value

    def check(self, name: str, made: Any) -> None:
        """Refuse at once what could not be written down hours later, and say what it is."""
        try:
            self.inside(pickle.loads(pickle.dumps(self.outside(made), 5)))  # noqa: S301 - our own
        except Exception as error:
            where = SNAPSHOT if self._hooked else _culprit(made, "self", set())
            what = "its state" if where == "self" else where
            message = f"{name} can't be replicated: {what} can't be written down: {words(error)}"
            raise LoadError(message) from error


Everything = tuple[dict[Any, Any], Any]
"""All objects by their keys, in the order in which they were made, and what calls wait for."""


class States:
    """How all objects of a worker are written down and read back."""

    def __init__(self, form_of: Callable[[Any], Form]) -> None:
        """Take what tells the form of an object by its key."""
        self._form_of = form_of

    def dump(self, everything: Everything) -> bytes:
        """Write the state down."""
        return pickle.dumps(self._outside(everything), 5)

    def read(self, state: bytes) -> Everything:
        """Make the objects of what `dump` wrote."""
        return self._inside(pickle.loads(state))  # noqa: S301 - replicas trust each other

    def read_from(self, pipe: int) -> Everything:
        """Make the objects of what was written to a pipe by a replica of this cluster."""
        with open(pipe, "rb", buffering=1 << 20, closefd=False) as file:
            return self._inside(pickle.load(file))  # noqa: S301 - replicas trust each other

    def write(self, everything: Everything, to: int, said: int) -> int:
        """Write the state to a pipe in another process, which sees it as it is now.

        What is written is the state of reloaded objects. That shows that there are such, evens
        out how they came to be (a string that is one object here may be two equal ones there),
        and tells whether they hold sets: those are among what is new after the reload.
        """

        def write(pipe: _Pipe) -> bool:
            state = self.dump(everything)
            gc.disable()
            gc.freeze()
            reloaded = self.read(state)
            del state
            has_sets = any(isinstance(each, (set, frozenset)) for each in gc.get_objects())
            pickle.dump(self._outside(reloaded), pipe, 5)
            return has_sets

        return _fork(write, to, said)

    def write_bytes(self, state: bytes, to: int, said: int) -> int:
        """Write what `dump` returned to a pipe in another process."""

        def write(pipe: _Pipe) -> bool:
            pipe.write(state)
            return False

        return _fork(write, to, said)

    def _outside(self, everything: Everything) -> Any:
        objects, waits = everything
        return [(key, self._form_of(key).outside(made)) for key, made in objects.items()], waits

    def _inside(self, written: Any) -> Everything:
        objects, waits = written
        return {key: self._form_of(key).inside(value) for key, value in objects}, waits


class _Pipe:
    """What a pickler writes to."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self.size = 0

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        self.size += size
        while left:
            left = left[os.write(self._pipe, left) :]
        return size


def _fork(write: Callable[[_Pipe], bool], to: int, said: int) -> int:
    """Write in another process, which says in the end how that went."""
    process = os.fork()
    if process:
        return process
    failed = True
    try:
        try:
            pipe = _Pipe(to)
            has_sets = write(pipe)
            words_ = b"\0" + struct.pack("<?Q", has_sets, pipe.size)
        except BaseException as error:
            words_ = b"\1" + f"the state can't be written down: {words(error)}".encode()[:4096]
        os.write(said, words_)
        failed = False
    finally:
        os._exit(failed)


def _culprit(value: Any, path: str, seen: set[int]) -> str:
    """Name the innermost part of a value that can't be written down."""
    seen.add(id(value))
    if len(seen) > DEPTH_MAX:
        return path
    for step, part in _parts(value):
        if id(part) not in seen and not _can_pickle(part):
            return _culprit(part, path + step, seen)
    return path


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{at}]", part) for at, part in enumerate(value))
    slots = {
        name: getattr(value, name)
        for cls in type(value).__mro__
        for name in vars(cls).get("__slots__", ())
        if hasattr(value, name)
    }
    held = {**getattr(value, "__dict__", {}), **slots}
    yield from ((f".{name}", part) for name, part in held.items())


def _can_pickle(value: Any) -> bool:
    try:
        pickle.loads(pickle.dumps(value, 5))  # noqa: S301 - our own
    except Exception:
        return False
    return True


def words(error: BaseException) -> str:
    """Return what an exception says, for people."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
