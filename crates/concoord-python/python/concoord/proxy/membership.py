"""The proxy of a Membership."""

from concoord._stock import proxy_class

__all__ = ["Membership"]

Membership = proxy_class(__name__, "Membership")
