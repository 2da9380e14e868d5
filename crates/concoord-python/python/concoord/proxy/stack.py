"""The proxy of a Stack."""

from concoord._stock import proxy_class

__all__ = ["Stack"]

Stack = proxy_class(__name__, "Stack")
