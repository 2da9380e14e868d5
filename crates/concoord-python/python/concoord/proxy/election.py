"""The proxy of an election."""

from concoord._stock import proxy_class

__all__ = ["Election"]

Election = proxy_class(__name__, "Election")
