"""A count that callers wait to see at zero."""

from concoord._stock import local_class

__all__ = ["CountDownLatch"]

CountDownLatch = local_class(__name__, "CountDownLatch")
