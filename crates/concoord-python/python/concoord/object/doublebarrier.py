"""A double barrier."""

from concoord._stock import local_class

__all__ = ["DoubleBarrier"]

DoubleBarrier = local_class(__name__, "DoubleBarrier")
