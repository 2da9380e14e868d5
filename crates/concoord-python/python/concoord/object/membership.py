"""Members."""

from concoord._stock import local_class

__all__ = ["Membership"]

Membership = local_class(__name__, "Membership")
