from concoord import Proxy

__all__ = ["Lock"]

class Lock(Proxy):
    """A lock, released when the session of its holder ends."""

    def __concoordinit__(self) -> None:
        """Release it and send all who wait away."""
    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Wait for the lock.

        Give up after `timeout` seconds unless that is -1. Return whether it was got.
        """
    def release(self) -> None:
        """Hand it to whoever has waited longest."""
    def locked(self) -> bool:
        """Return whether somebody holds it."""
