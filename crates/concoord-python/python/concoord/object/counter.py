"""A counter."""

from concoord._stock import local_class

__all__ = ["Counter"]

Counter = local_class(__name__, "Counter")
