"""The proxy of a count that callers wait to see at zero."""

from concoord._stock import proxy_class

__all__ = ["CountDownLatch"]

CountDownLatch = proxy_class(__name__, "CountDownLatch")
