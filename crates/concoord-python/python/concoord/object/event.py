"""An event."""

from concoord._stock import local_class

__all__ = ["Event"]

Event = local_class(__name__, "Event")
