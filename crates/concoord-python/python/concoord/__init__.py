"""Replicated objects: live, linearizable, fault-tolerant copies of an ordinary class.

>>> from concoord.proxy.counter import Counter
>>> c = Counter("127.0.0.1:14000, 127.0.0.1:14001")
>>> c.increment()
>>> c.getvalue()
1
"""

from concoord._concoord import __version__
from concoord._later import AsyncProxy, BatchProxy
from concoord._mark import readonly
from concoord._proxy import Proxy, ProxyType, Session, batch, close, connect, proxy_for
from concoord._waits import call_later, cancel_later, wake

__all__ = [
    "AsyncProxy",
    "BatchProxy",
    "Proxy",
    "ProxyType",
    "Session",
    "__version__",
    "batch",
    "call_later",
    "cancel_later",
    "close",
    "connect",
    "proxy_for",
    "readonly",
    "wake",
]
