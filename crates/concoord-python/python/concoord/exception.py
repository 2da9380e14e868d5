"""What can go wrong.

All of it is a `ConcoordError`; where Python has a word for it, it is that, too. Exceptions that a
method raises on the replicas arrive as what they are if they are Python's own, and as
`RemoteError` otherwise.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BlockingReturn",
    "BootstrapError",
    "CallTimeoutError",
    "ClosedError",
    "ConcoordError",
    "NoSuchMethodError",
    "NonDeterministicError",
    "ObjectCrashedError",
    "ObjectRemovedError",
    "RefusedError",
    "RemoteError",
    "SessionExpiredError",
    "TooLargeError",
    "UnblockingReturn",
    "UnreachableError",
]


class ConcoordError(Exception):
    """Anything that went wrong between a proxy and its object."""


class BootstrapError(ConcoordError, ValueError):
    """The bootstrap names no addresses: it should be like `"host:port, host:port"`."""


class UnreachableError(ConcoordError, ConnectionError):
    """No replica could be reached. The call has not run."""


class CallTimeoutError(ConcoordError, TimeoutError):
    """No reply came in time. Whether the call took effect is unknown."""


class SessionExpiredError(ConcoordError, ConnectionError):
    """The session was silent for too long and is gone.

    Whether the call that met it took effect is unknown. The next call opens a new session.
    """


class RefusedError(ConcoordError):
    """The replicas refused: their object is of another class, say, or the call can't be run.

    What was asked for has not happened, and will not.
    """


class NoSuchMethodError(RefusedError, AttributeError):
    """The object has no public method of that name."""


class ObjectCrashedError(RefusedError):
    """The call crashed the process that hosts the object, or never came back, and was skipped."""


class ObjectRemovedError(ConcoordError, LookupError):
    """The object was removed while the call waited there."""


class TooLargeError(RefusedError, ValueError):
    """The arguments are larger than a call may bring."""


class ClosedError(ConcoordError, ValueError):
    """The proxy has been closed."""


class NonDeterministicError(ConcoordError, RuntimeError):
    """A replicated method did what would have another effect on each replica.

    Such as writing a file, opening a socket, starting a process or a thread.
    """


class BlockingReturn(Exception):  # noqa: N818 - the name that classes know it by
    """Raised by a method of a replicated object: the caller waits until another call wakes it.

    The call then returns `returnvalue`, unless who wakes it says otherwise.
    """

    def __init__(self, returnvalue: Any = None) -> None:
        """Take what the call returns in the end."""
        super().__init__(returnvalue)
        self.returnvalue = returnvalue


class UnblockingReturn(Exception):  # noqa: N818 - as above
    """Raised by a method of a replicated object: it returns, and others that wait do, too.

    `unblockeddict` says which commands end and how: by `True` for what their `BlockingReturn`
    said, by an exception that is raised there, or by any other value, which is returned. Commands
    that do not wait are passed over.
    """

    def __init__(
        self, returnvalue: Any = None, unblockeddict: dict[Any, Any] | None = None
    ) -> None:
        """Take what the call returns, and who is woken."""
        super().__init__(returnvalue, unblockeddict)
        self.returnvalue = returnvalue
        self.unblockeddict = dict(unblockeddict or {})


class RemoteError(ConcoordError):
    """An exception of a class that this program does not know.

    Its `args` are those of the exception; `str()` of it names the class.
    """

    module: str
    """The module of its class."""
    name: str
    """The name of its class."""
    traceback: str
    """Where it was raised on the replica, as text."""

    def __init__(self, *args: object) -> None:
        """Set up one that says nothing about its class yet."""
        super().__init__(*args)
        self.module = ""
        self.name = ""
        self.traceback = ""

    @classmethod
    def _of(cls, module: str, name: str, args: tuple[Any, ...], traceback: str) -> RemoteError:
        error = cls(*args)
        error.module, error.name, error.traceback = module, name, traceback
        return error

    def __str__(self) -> str:
        """Say what the exception would have said, after its class."""
        said = super().__str__()
        name = f"{self.module}.{self.name}".strip(".")
        return f"{name}: {said}" if name and said else name or said

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the class's name through a pickle."""
        return self._of, (self.module, self.name, self.args, self.traceback)


class RemoteTraceback(Exception):  # noqa: N818 - it is no error but where one happened
    """Where an exception was raised on a replica: the cause of the exception raised here."""

    def __str__(self) -> str:
        """Set the text off from the local traceback."""
        return f'\n"""\n{self.args[0] if self.args else ""}"""'
