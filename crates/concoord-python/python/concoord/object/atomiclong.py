"""An int of any size, 0 at first."""

from concoord._stock import local_class

__all__ = ["AtomicLong"]

AtomicLong = local_class(__name__, "AtomicLong")
