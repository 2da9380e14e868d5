"""A queue whose items are leased until they are consumed."""

from concoord._stock import local_class

__all__ = ["LockingQueue"]

LockingQueue = local_class(__name__, "LockingQueue")
