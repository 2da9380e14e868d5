from types import TracebackType

__all__ = ["ReadWriteLock"]

class ReadWriteLock:
    """A lock that many hold to read, or one to write; fair to both."""

    def __init__(self) -> None: ...
    def __concoordinit__(self) -> None:
        """Release it and send all who wait away."""
    def acquire_read(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Wait for the lock to read.

        Give up after `timeout` seconds unless that is -1. Return the fencing token, or False
        without it.
        """
    def acquire_write(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Wait for the lock to write.

        Give up after `timeout` seconds unless that is -1. Return the fencing token, or False
        without it.
        """
    def release_read(self) -> None:
        """Give it back once. Raise RuntimeError if the caller does not hold it to read."""
    def release_write(self) -> None:
        """Give it back once. Raise RuntimeError if the caller does not hold it to write."""
    def downgrade(self) -> int:
        """Hold it to read, once, instead of to write, without a gap between the two.

        Return the new fencing token. Raise RuntimeError if the caller does not hold it to write.
        """
    def readers(self) -> int:
        """Return how many hold it to read."""
    def locked(self) -> bool:
        """Return whether somebody holds it to write."""
    def __enter__(self) -> bool:
        """Acquire."""
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release."""
