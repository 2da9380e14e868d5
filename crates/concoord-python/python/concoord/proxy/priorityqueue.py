"""The proxy of a PriorityQueue."""

from concoord._stock import proxy_class

__all__ = ["PriorityQueue"]

PriorityQueue = proxy_class(__name__, "PriorityQueue")
