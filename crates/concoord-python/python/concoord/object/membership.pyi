from typing import Any

__all__ = ["Membership"]

class Membership:
    """Members: added until they are removed, or joined while a session lives."""

    def __init__(self) -> None: ...
    def __concoordinit__(self) -> None:
        """Start anew, without members."""
    def add(self, member: object) -> bool:
        """Have a member until it is removed; return whether it is new."""
    def join(self, member: object) -> bool:
        """Have a member that leaves when the caller's session ends; return whether it is new.

        One that was added or had joined belongs to this session now.
        """
    def remove(self, member: object) -> None:
        """Remove a member; raise KeyError if it is none."""
    def leave(self, member: object) -> bool:
        """Remove a member; return whether it was one."""
    def members(self) -> list[Any]:
        """Return the members, the longest-standing first."""
    def get_size(self) -> int:
        """Return how many members there are."""
    def __len__(self) -> int:
        """Return how many members there are."""
    def __contains__(self, member: object) -> bool:
        """Return whether it is a member."""
