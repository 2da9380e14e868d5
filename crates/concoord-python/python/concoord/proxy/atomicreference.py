"""The proxy of an AtomicReference."""

from concoord._stock import proxy_class

__all__ = ["AtomicReference"]

AtomicReference = proxy_class(__name__, "AtomicReference")
