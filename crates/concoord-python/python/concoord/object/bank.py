"""A bank."""

from concoord._stock import local_class

__all__ = ["Bank"]

Bank = local_class(__name__, "Bank")
