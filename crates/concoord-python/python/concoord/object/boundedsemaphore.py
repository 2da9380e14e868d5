"""A semaphore that refuses to be released too often."""

from concoord._stock import local_class

__all__ = ["BoundedSemaphore"]

BoundedSemaphore = local_class(__name__, "BoundedSemaphore")
