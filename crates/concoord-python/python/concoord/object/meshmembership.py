"""Groups of nodes that watch each other."""

from concoord._stock import local_class

__all__ = ["MeshMembership"]

MeshMembership = local_class(__name__, "MeshMembership")
