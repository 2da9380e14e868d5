"""A lock that its holder may acquire again."""

from concoord._stock import local_class

__all__ = ["RLock"]

RLock = local_class(__name__, "RLock")
