__all__ = ["Barrier"]

class Barrier:
    """Where so many callers wait for each other, again and again."""

    def __init__(
        self,
        parties: int = 1,
        action: None = None,
        timeout: float | None = None,
        count: int | None = None,
    ) -> None: ...
    def __concoordinit__(
        self,
        parties: int = 1,
        action: None = None,
        timeout: float | None = None,
        count: int | None = None,
    ) -> None:
        """Start anew, for `parties` callers, and break it for all who wait.

        Their number may also be given as `count`. They wait for `timeout` seconds at most if they
        don't say otherwise. An `action` is for the caller to take that gets the index 0, so it
        must be None.
        """
    def wait(self, timeout: float | None = None) -> int:
        """Wait until all are there.

        After `timeout` seconds the barrier breaks. Return an index from 0 on, in the order of
        coming. Raise BrokenBarrierError where it breaks, is broken or is reset.
        """
    def reset(self) -> None:
        """Mend it; raise BrokenBarrierError where one waits."""
    def abort(self) -> None:
        """Break it."""
    @property
    def parties(self) -> int:
        """How many callers pass together."""
    @property
    def n_waiting(self) -> int:
        """How many wait."""
    @property
    def broken(self) -> bool:
        """Whether it is broken."""
