"""A queue."""

from concoord._stock import local_class

__all__ = ["Queue"]

Queue = local_class(__name__, "Queue")
