__all__ = ["Lock"]

class Lock:
    """A lock, released when the session of its holder ends."""

    def __init__(self) -> None: ...
    def __concoordinit__(self) -> None:
        """Release it and send all who wait away."""
    def acquire(self, blocking: bool = True, timeout: float = -1) -> int:
        """Wait for the lock.

        Give up after `timeout` seconds unless that is -1. Return the fencing token, or False
        without it.
        """
    def release(self) -> None:
        """Hand it to whoever has waited longest."""
    def locked(self) -> bool:
        """Return whether somebody holds it."""
