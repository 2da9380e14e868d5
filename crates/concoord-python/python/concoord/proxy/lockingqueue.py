"""The proxy of a LockingQueue."""

from concoord._stock import proxy_class

__all__ = ["LockingQueue"]

LockingQueue = proxy_class(__name__, "LockingQueue")
