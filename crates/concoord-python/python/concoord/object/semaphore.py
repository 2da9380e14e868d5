"""A semaphore."""

from concoord._stock import local_class

__all__ = ["Semaphore"]

Semaphore = local_class(__name__, "Semaphore")
