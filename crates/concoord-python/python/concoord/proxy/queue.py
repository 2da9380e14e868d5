"""The proxy of a Queue."""

from concoord._stock import proxy_class

__all__ = ["Queue"]

Queue = proxy_class(__name__, "Queue")
