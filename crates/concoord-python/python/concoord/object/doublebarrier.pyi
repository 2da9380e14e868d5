__all__ = ["DoubleBarrier"]

class DoubleBarrier:
    """What so many callers enter together and leave together, again and again."""

    def __init__(self, parties: int = 1, count: int | None = None) -> None: ...
    def __concoordinit__(self, parties: int = 1, count: int | None = None) -> None:
        """Start anew, for `parties` callers, which may also be given as `count`.

        Send all who wait away.
        """
    def enter(self, timeout: float | None = None) -> bool:
        """Wait to enter together, but for `timeout` seconds at most.

        Return whether the caller is within. Raise RuntimeError where it is already.
        """
    def leave(self, timeout: float | None = None) -> bool:
        """Leave, and wait until all have left, but for `timeout` seconds at most.

        Return whether they have. Raise RuntimeError where the caller is not within.
        """
    def parties(self) -> int:
        """Return how many callers enter together."""
    def n_within(self) -> int:
        """Return how many callers are within."""
    def n_waiting(self) -> int:
        """Return how many callers wait to enter."""
