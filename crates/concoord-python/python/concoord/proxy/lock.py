"""The proxy of a lock."""

from concoord._stock import proxy_class

__all__ = ["Lock"]

Lock = proxy_class(__name__, "Lock")
