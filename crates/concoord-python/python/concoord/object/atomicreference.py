"""One value of any kind, None at first."""

from concoord._stock import local_class

__all__ = ["AtomicReference"]

AtomicReference = local_class(__name__, "AtomicReference")
