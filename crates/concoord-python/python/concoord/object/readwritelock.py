"""A lock to read or to write."""

from concoord._stock import local_class

__all__ = ["ReadWriteLock"]

ReadWriteLock = local_class(__name__, "ReadWriteLock")
