from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeAlias, final

__all__ = [
    "SPECIAL_METHODS",
    "Client",
    "Gather",
    "LocalObject",
    "Started",
    "Worker",
    "__version__",
    "decode",
    "encode",
    "run",
    "stock_interface",
]

__version__: Final[str]
"""The version of this package."""

SPECIAL_METHODS: Final[tuple[str, ...]]
"""The special methods that clients may call where the class defines them."""

class _Host(Protocol):
    """What a worker needs of the object it hosts."""

    tells: bool
    @property
    def methods(self) -> dict[str, Any]: ...
    def load(self, names: list[str], /) -> tuple[list[Any], str]: ...
    def methods_of(self, of: str, name: str, /) -> dict[str, Any]: ...
    def create(self, of: str, name: str, /) -> dict[str, Any]: ...
    def look_at(self, of: str, name: str, /) -> dict[str, Any]: ...
    def begin(self, index: int, time_ms: int, clock_ms: int, leaves_out: bool, /) -> None: ...
    def begin_read(self, time_ms: int, /) -> None: ...
    def end(self) -> None: ...
    def enter(self, step: tuple[int, int, int, str, tuple[str, str] | None], /) -> None: ...
    def raised(self, error: BaseException, /) -> tuple[bool, Any] | None: ...
    def take_ended(self) -> list[tuple[int, int, Any]]: ...
    def wake_at(self) -> int | None: ...
    def lost(self, session: int, /) -> None: ...
    def cancel(self, session: int, sequence: int, /) -> bool: ...
    def remove(self, of: str, name: str, /) -> None: ...
    def snapshot(self, to: int, said: int, /) -> int: ...
    def settle(self, to: int, said: int, /) -> int: ...
    def reap(self, process: int, /) -> bool: ...
    def restore(self, pipe: int, /) -> None: ...

_Interface: TypeAlias = tuple[
    str, str, list[tuple[str, str, list[tuple[str, int, str | None, str]], str, bool]]
]

@final
class Client:
    """Calls of one object, by a session that it may share with others."""

    def __new__(
        cls, bootstrap: str, timeout: float, proxy: type | None, name: str = "", /
    ) -> Client:
        """Connect; `proxy` is the proxy class that this is for, if there is one yet."""
    def object(self, proxy: type, name: str, /) -> Client:
        """Call another object by the same session."""
    def guarded(self, holder: Client, token: int, /) -> Client:
        """Call the same object, only while `holder`'s is held under that token."""
    def within(self, timeout: float, /) -> Client: ...
    def called_by(self, thread: int, /) -> Client:
        """Call the same object as one that is no thread of this process."""
    @property
    def name(self) -> str:
        """The name of the object; empty for the one that is meant where none is named."""
    def health(self) -> tuple[str, float, int | None, int]:
        """Say how the session is: state, for how many seconds, its number, how many were lost."""
    @property
    def bootstrap(self) -> str:
        """As it was given."""
    @property
    def timeout(self) -> float:
        """Seconds that a call may take."""
    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the object. An argument that is `...` is left to its default there."""
    @staticmethod
    def lazy(bootstrap: str, timeout: float, proxy: type, name: str = "", /) -> Client:
        """Connect when it is first called."""
    def start(
        self,
        gather: Gather,
        thread: int | None,
        calls: Sequence[tuple[int, str, tuple[Any, ...], dict[str, Any] | None]],
        /,
    ) -> list[Started]:
        """Make calls, and wait for none."""
    def give_up(self, started: Started, /) -> bool:
        """Give a started call up."""
    def interface(self) -> _Interface:
        """Ask what the object offers."""
    def close(self) -> None:
        """End the session, for all that share it."""

@final
class Started:
    """A call that was started."""

@final
class Gather:
    """What came of calls that no thread waits for."""

    def __new__(cls) -> Gather:
        """Gather nothing yet."""
    def fileno(self) -> int:
        """Give the descriptor that can be read when there is something."""
    def take(self) -> list[tuple[int, bool, Any]]:
        """Take what there is: for each call its number, whether it raised, and what."""

@final
class LocalObject:
    """A ready-made object in this process."""

    def __new__(cls, class_: str, /) -> LocalObject:
        """Make a ready-made object of that class."""
    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method here, and wait for other threads if that has to."""
    def snapshot(self) -> bytes:
        """Return the whole state."""
    def restore(self, snapshot: bytes, /) -> None:
        """Become what `snapshot` returned."""

@final
class Worker:
    """The worker's end of the connection to its replica."""

    def __new__(cls) -> Worker:
        """Take the socket over that is standard input; die with the replica from now on."""
    def serve(self, host: _Host, /) -> None:
        """Do what the replica asks of `host` until the replica is gone."""

def stock_interface(class_: str, /) -> _Interface:
    """Return the interface of a ready-made class."""

def run(arguments: list[str], python: str, /) -> int:
    """Run the command line; returns its exit code."""

def encode(value: Any, /) -> bytes:
    """Encode a value as it travels: CBOR."""

def decode(encoded: bytes, /) -> Any:
    """Decode what `encode` wrote."""
