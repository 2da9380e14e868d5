from types import TracebackType

__all__ = ["Lock"]

class Lock:
    """A lock, for the threads of this process as `threading.Lock` is."""

    def __init__(self) -> None: ...
    def __concoordinit__(self) -> None:
        """Release it and send all who wait away."""
    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Wait for the lock, but for `timeout` seconds at most unless it is -1."""
    def release(self) -> None:
        """Hand it to whoever has waited longest."""
    def locked(self) -> bool:
        """Return whether somebody holds it."""
    def __enter__(self) -> bool:
        """Acquire."""
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release."""
