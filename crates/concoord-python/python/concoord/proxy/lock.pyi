from concoord._held import Holder

__all__ = ["Lock"]

class Lock(Holder):
    """A lock, released when the session of its holder ends."""

    def __concoordinit__(self) -> None:
        """Release it and send all who wait away."""
    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Wait for the lock, but for `timeout` seconds at most unless it is -1.

        Return whether it was acquired; `token` is its fencing token then.
        """
    def release(self) -> None:
        """Hand it to whoever has waited longest."""
    def locked(self) -> bool:
        """Return whether somebody holds it."""
