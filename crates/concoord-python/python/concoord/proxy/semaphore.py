"""The proxy of a semaphore."""

from concoord._stock import proxy_class

__all__ = ["Semaphore"]

Semaphore = proxy_class(__name__, "Semaphore")
