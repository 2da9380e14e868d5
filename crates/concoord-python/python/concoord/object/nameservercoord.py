"""The nodes of subdomains, by their types."""

from concoord._stock import local_class

__all__ = ["NameserverCoord"]

NameserverCoord = local_class(__name__, "NameserverCoord")
