from types import TracebackType

__all__ = ["RLock"]

class RLock:
    """A lock that its holder may acquire again, released when the session of its holder ends."""

    def __init__(self) -> None: ...
    def __concoordinit__(self) -> None:
        """Release it and send all who wait away."""
    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Wait for the lock that the caller may hold already.

        Give up after `timeout` seconds unless that is -1. Return the fencing token, or False
        without it.
        """
    def release(self) -> None:
        """Give it back once; at last it goes to whoever has waited longest.

        Raise RuntimeError if the caller does not hold it.
        """
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
