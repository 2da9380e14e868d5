"""The proxy of a Log."""

from concoord._stock import proxy_class

__all__ = ["Log"]

Log = proxy_class(__name__, "Log")
