"""The process that hosts the object of one replica: `python -m concoord._worker`.

Its standard input is a socket to the replica. `concoord._concoord.Worker` does the talking; what
Python must do is here: import the class, keep the object, fork to write its state down.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import inspect
import os
import pickle
import signal
import sys
from pathlib import Path
from typing import Any

from concoord._concoord import Worker
from concoord._interface import INIT, callables_of, interface_of
from concoord._load import LoadError, load_class

ENVIRONMENT = {"PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C.UTF-8"}
STARTED = "CONCOORD_WORKER"
ADDR_NO_RANDOMIZE = 0x0040000


class Host:
    """The object, as the worker's loop sees it."""

    def __init__(self) -> None:
        """Host nothing yet."""
        # Only here, where it is meant: to import it changes nothing, to install it does.
        self._world = importlib.import_module("concoord._determinism")
        self._world.install()
        self.begin, self.begin_read, self.end = (
            self._world.begin,
            self._world.begin_read,
            self._world.end,
        )
        self.methods: dict[str, Any] = {}

    def load(self, name: str) -> tuple[Any, str]:
        """Make the object. Returns its interface and what must be alike on all replicas."""
        self._world.begin(0, 0)
        self._world.end()
        self._class = load_class(name)
        self._callables = callables_of(self._class)
        try:
            self._world.begin(0, 0)
            made = self._class()
        except Exception as error:
            message = f"{name}() can't be made without arguments: {_words(error)}"
            raise LoadError(message) from error
        finally:
            self._world.end()
        _check_state(name, made)
        self._become(made)
        return interface_of(self._class)._replace(name=name), _runtime(self._class)

    def snapshot(self, pipe: int) -> int:
        """Write the state down in another process, which sees it as it is now."""
        process = os.fork()
        if process:
            return process
        failed = True
        try:
            try:
                said = b"\0" + _normal(self._object)
            except BaseException as error:
                said = b"\1" + f"the state can't be written down: {_words(error)}".encode()
            with open(pipe, "wb", closefd=False) as to:
                to.write(said)
            failed = False
        finally:
            os._exit(failed)

    def reap(self, process: int) -> bool:
        """Take note of the end of a process that `snapshot` started; tell whether it was well."""
        _, status = os.waitpid(process, 0)
        return status == 0

    def restore(self, state: bytes) -> None:
        """Become what `snapshot` wrote. The bytes are from a replica of this cluster."""
        made = pickle.loads(state)  # noqa: S301 - replicas trust each other, and nobody else
        if type(made) is not self._class:
            message = f"the state is of {type(made).__qualname__}"
            raise TypeError(message)
        self._become(made)

    def _become(self, made: Any) -> None:
        self._object = made
        bound = {
            name: attribute.__get__(made, self._class)
            for name, attribute in self._callables.items()
        }
        self.methods = {**bound, INIT: self._init}

    def _init(self, *args: Any, **kwargs: Any) -> None:
        """Put a new object in the old one's place, if it can be made."""
        self._become(self._class(*args, **kwargs))


def _normal(made: Any) -> bytes:
    """Pickle the state as a replica that restored it would.

    A reload shows that there is one, and evens out how the object came to be: a string that is
    one object here may be two equal ones there. Bytes may still differ between equal states, such
    as where one shares a constant of its module, so that only a reload can compare them.
    """
    return pickle.dumps(pickle.loads(pickle.dumps(made, 5)), 5)  # noqa: S301 - our own


def _check_state(name: str, made: Any) -> None:
    """Refuse at once what could not be written down hours later, and say what it is."""
    try:
        _normal(made)
    except Exception as error:
        held = getattr(made, "__dict__", {})
        culprits = [attribute for attribute, value in held.items() if not _can_pickle(value)]
        what = f"its attribute '{culprits[0]}'" if culprits else "its state"
        message = f"{name} can't be replicated: {what} can't be written down: {_words(error)}"
        raise LoadError(message) from error


def _can_pickle(value: Any) -> bool:
    try:
        _normal(value)
    except Exception:
        return False
    return True


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _runtime(cls: type) -> str:
    """Tell what must be alike for the object to behave alike: Python, and the module's source."""
    path = inspect.getfile(cls)
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return f"python {sys.version_info.major}.{sys.version_info.minor} sha256 {digest}"


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
