"""The proxy of a barrier."""

from concoord._stock import proxy_class

__all__ = ["Barrier"]

Barrier = proxy_class(__name__, "Barrier")
