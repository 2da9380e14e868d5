"""The proxy of a MeshMembership."""

from concoord._stock import proxy_class

__all__ = ["MeshMembership"]

MeshMembership = proxy_class(__name__, "MeshMembership")
