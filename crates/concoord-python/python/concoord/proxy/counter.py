"""The proxy of a counter."""

from concoord._stock import proxy_class

__all__ = ["Counter"]

Counter = proxy_class(__name__, "Counter")
