"""A queue whose items can be had after a delay."""

from concoord._stock import local_class

__all__ = ["DelayQueue"]

DelayQueue = local_class(__name__, "DelayQueue")
