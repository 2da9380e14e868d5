"""A dict."""

from concoord._stock import local_class

__all__ = ["Map"]

Map = local_class(__name__, "Map")
