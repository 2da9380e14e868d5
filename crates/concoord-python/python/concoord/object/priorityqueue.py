"""A queue whose least item comes first."""

from concoord._stock import local_class

__all__ = ["PriorityQueue"]

PriorityQueue = local_class(__name__, "PriorityQueue")
