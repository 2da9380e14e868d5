"""The proxy of a Map."""

from concoord._stock import proxy_class

__all__ = ["Map"]

Map = proxy_class(__name__, "Map")
