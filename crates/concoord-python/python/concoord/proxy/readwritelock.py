"""The proxy of a lock to read or to write."""

from concoord._stock import proxy_class

__all__ = ["ReadWriteLock"]

ReadWriteLock = proxy_class(__name__, "ReadWriteLock")
