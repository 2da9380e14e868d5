"""A lock."""

from concoord._stock import local_class

__all__ = ["Lock"]

Lock = local_class(__name__, "Lock")
