"""The proxy of a NameserverCoord."""

from concoord._stock import proxy_class

__all__ = ["NameserverCoord"]

NameserverCoord = proxy_class(__name__, "NameserverCoord")
