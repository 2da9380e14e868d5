from typing import Any

from concoord._held import Holder

__all__ = ["Election"]

class Election(Holder):
    """Who leads: one candidate at a time, in the order of coming."""

    def __concoordinit__(self) -> None:
        """Have nobody lead, and send all candidates away."""
    def campaign(self, value: object = None, timeout: float | None = None) -> bool:
        """Wait to lead, but for `timeout` seconds at most; `value` is what others see.

        Return whether the caller leads. Who leads goes on, with the new value.
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
