from typing import Any, Final, Protocol, TypeAlias, final

__all__ = [
    "SPECIAL_METHODS",
    "Client",
    "LocalObject",
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
    def look_at(self, of: str, name: str, /) -> dict[str, Any]: ...
    def begin(self, index: int, time_ms: int, clock_ms: int, /) -> None: ...
    def begin_read(self) -> None: ...
    def end(self) -> None: ...
    def enter(
        self, session: int, sequence: int, thread: int, method: str, key: tuple[str, str], /
    ) -> None: ...
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
    """A client of the replicas at some addresses."""

    def __new__(cls, bootstrap: str, timeout: float, proxy: type | None, /) -> Client:
        """Connect; `proxy` is the proxy class that this is for, if there is one yet."""
    @property
    def bootstrap(self) -> str:
        """As it was given."""
    @property
    def timeout(self) -> float:
        """Seconds that a call may take."""
    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the object. An argument that is `...` is left to its default there."""
    def interface(self) -> _Interface:
        """Ask what the object offers."""
    def close(self) -> None:
        """End the session."""

@final
class LocalObject:
    """A ready-made object in this process."""

    def __new__(cls, class_: str, /) -> LocalObject:
        """Make a ready-made object of that class."""
    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method here and now."""
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
