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
import signal
import sys
from pathlib import Path
from typing import Any

from concoord._concoord import Worker
from concoord._interface import INIT, callables_of, interface_of
from concoord._load import LoadError, load_class
from concoord._state import States, words

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
            made = self._make()
        except Exception as error:
            message = f"{name}() can't be made without arguments: {words(error)}"
            raise LoadError(message) from error
        self._states = States(self._class, self._make)
        self._states.check(name, made)
        self._become(made)
        return interface_of(self._class)._replace(name=name), _runtime(self._class)

    def snapshot(self, to: int, said: int) -> int:
        """Write the state to a pipe in another process, which sees it as it is now."""
        return self._states.write(self._object, to, said)

    def settle(self, to: int, said: int) -> int:
        """Become what a replica that takes the state in would be, and write that down."""
        state = self._states.dump(self._object)
        self._become(self._states.read(state))
        return self._states.write_bytes(state, to, said)

    def reap(self, process: int) -> bool:
        """Take note of the end of a process that wrote the state; tell whether it was well."""
        _, status = os.waitpid(process, 0)
        return status == 0

    def restore(self, pipe: int) -> None:
        """Become what comes out of a pipe: what `snapshot` wrote on a replica of this cluster."""
        self._become(self._states.read_from(pipe))

    def _make(self) -> Any:
        self._world.begin(0, 0)
        try:
            return self._class()
        finally:
            self._world.end()

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
