from types import TracebackType

__all__ = ["BoundedSemaphore"]

class BoundedSemaphore:
    """So many permits and never more; those that a session holds come back when it ends."""

    def __init__(self, value: int = 1, count: int | None = None) -> None: ...
    def __concoordinit__(self, value: int = 1, count: int | None = None) -> None:
        """Start anew, with `value` permits, which may also be given as `count`.

        Send all who wait away.
        """
    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Wait for a permit, but for `timeout` seconds at most.

        Return its fencing token, or False without one.
        """
    def release(self, n: int = 1) -> None:
        """Give back `n` permits; raise ValueError where fewer are held."""
    def getvalue(self) -> int:
        """Return how many permits nobody holds."""
    def __enter__(self) -> bool:
        """Acquire."""
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release."""
