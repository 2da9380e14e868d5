"""The proxy of a double barrier."""

from concoord._stock import proxy_class

__all__ = ["DoubleBarrier"]

DoubleBarrier = proxy_class(__name__, "DoubleBarrier")
