"""The proxy of a DelayQueue."""

from concoord._stock import proxy_class

__all__ = ["DelayQueue"]

DelayQueue = proxy_class(__name__, "DelayQueue")
