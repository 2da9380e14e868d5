__all__ = ["Event"]

class Event:
    """A flag that callers wait for, not set at first."""

    def __init__(self) -> None: ...
    def __concoordinit__(self) -> None:
        """Clear it and send all who wait away."""
    def set(self) -> None:
        """Set it, and have all who wait return."""
    def clear(self) -> None:
        """Have those wait who come from now on."""
    def is_set(self) -> bool:
        """Return whether it is set."""
    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, but for `timeout` seconds at most. Return whether it was."""
