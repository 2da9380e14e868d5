"""The proxy of an event."""

from concoord._stock import proxy_class

__all__ = ["Event"]

Event = proxy_class(__name__, "Event")
