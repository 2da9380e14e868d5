from concoord import Proxy

__all__ = ["CountDownLatch"]

class CountDownLatch(Proxy):
    """A count that callers wait to see at zero."""

    def __concoordinit__(self, count: int = 0) -> None:
        """Start anew, from `count`; send all who wait away."""
    def try_set(self, count: int) -> bool:
        """Set the count, if it is zero; return whether it was."""
    def count_down(self, n: int = 1) -> int:
        """Subtract `n`, down to zero at most. Return the count."""
    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the count is zero, but for `timeout` seconds at most.

        Return whether it was.
        """
    def getcount(self) -> int:
        """Return the count."""
