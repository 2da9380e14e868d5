"""An election."""

from concoord._stock import local_class

__all__ = ["Election"]

Election = local_class(__name__, "Election")
