"""The proxy of a lock that its holder may acquire again."""

from concoord._stock import proxy_class

__all__ = ["RLock"]

RLock = proxy_class(__name__, "RLock")
