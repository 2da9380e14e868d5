"""A barrier."""

from concoord._stock import local_class

__all__ = ["Barrier"]

Barrier = local_class(__name__, "Barrier")
