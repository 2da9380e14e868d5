"""The proxy of a semaphore that refuses to be released too often."""

from concoord._stock import proxy_class

__all__ = ["BoundedSemaphore"]

BoundedSemaphore = proxy_class(__name__, "BoundedSemaphore")
