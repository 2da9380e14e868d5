from types import TracebackType
from typing import Any

__all__ = ["Election"]

class Election:
    """Who leads: one candidate at a time, in the order of coming."""

    def __init__(self) -> None: ...
    def __concoordinit__(self) -> None:
        """Have nobody lead, and send all candidates away."""
    def campaign(self, value: object = None, timeout: float | None = None) -> bool:
        """Wait to lead, but for `timeout` seconds at most; `value` is what others see.

        Return the epoch, a fencing token, or False. Who leads goes on, with the new value.
        """
    def proclaim(self, value: object) -> None:
        """Replace the value of who leads. Raise RuntimeError if the caller's session does not."""
    def resign(self) -> None:
        """Lead no more. Raise RuntimeError if the caller's session does not lead."""
    def leader(self) -> Any:
        """Return the value of who leads; None if nobody does."""
    def epoch(self) -> int | None:
        """Return the epoch of who leads; None if nobody does."""
    def candidates(self) -> list[Any]:
        """Return the values of those who wait to lead, in order."""
    def __enter__(self) -> bool:
        """Acquire."""
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release."""
