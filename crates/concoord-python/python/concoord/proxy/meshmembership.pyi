from typing import Any

from concoord import Proxy

__all__ = ["MeshMembership"]

class MeshMembership(Proxy):
    """Groups of nodes that watch each other.

    All methods but add_group raise KeyError for a group that is not there.
    """

    def __concoordinit__(self) -> None:
        """Start anew, without groups; who waits gets False."""
    def add_group(self, gname: object, minsize: int) -> bool:
        """Add a group that shall have `minsize` members; return whether it is new."""
    def remove_group(self, gname: object) -> None:
        """Remove a group; who waits for it gets the KeyError."""
    def approve_join(
        self, gname: object, node: object, epochno: int, ephemeral: bool = False
    ) -> tuple[bool, int]:
        """Have a node join in that epoch.

        Return True and the epoch that begins, or, if that is not the group's epoch, False and the
        one that is; for a member, True and the epoch. An ephemeral node leaves when the session of
        the caller ends.
        """
    def leave(self, gname: object, node: object) -> bool:
        """Have a node leave; return whether it was a member."""
    def notify_failure(self, gname: object, epoch: int, failednode: object) -> tuple[bool, int]:
        """Say that a member has failed in that epoch.

        It is removed once more than half of the other members' number have said so, each session
        once. Return whether this removed it, and the epoch.
        """
    def wait(self, gname: object, timeout: float | None = None) -> bool:
        """Wait until the group has `minsize` members; return whether it has.

        Wait for `timeout` seconds at most if that is given.
        """
    def check_member(self, gname: object, node: object) -> bool:
        """Return whether the node is a member."""
    def get_group_members(self, gname: object) -> list[Any]:
        """Return the members, the longest-standing first."""
    def get_group_epoch(self, gname: object) -> int:
        """Return the epoch, 0 at first."""
    def get_group_state(self, gname: object) -> dict[str, Any]:
        """Return a dict of `epoch`, `minsize`, `members` and `votes`.

        The votes are a dict of how many have said of which node that it has failed.
        """
    def get_groups(self) -> list[Any]:
        """Return the names of the groups."""
