"""The proxy of an AtomicLong."""

from concoord._stock import proxy_class

__all__ = ["AtomicLong"]

AtomicLong = proxy_class(__name__, "AtomicLong")
