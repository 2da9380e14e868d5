"""The proxy of a Bank."""

from concoord._stock import proxy_class

__all__ = ["Bank"]

Bank = proxy_class(__name__, "Bank")
