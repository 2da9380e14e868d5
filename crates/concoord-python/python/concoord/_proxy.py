"""Proxies: classes whose methods are called on the replicas."""

from __future__ import annotations

import contextlib
import itertools
import sys
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from concoord._concoord import Client
from concoord._interface import interface_of, told
from concoord._session import Session
from concoord._source import Style, class_name, class_source
from concoord.exception import ConcoordError, SessionExpiredError, WatchLostError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from typing_extensions import Self

    from concoord._interface import Interface
    from concoord._later import Batch

__all__ = ["Proxy", "ProxyType", "Session", "close", "connect", "proxy_for"]

WATCH = "__concoordwatch__"
SESSION_ENDED = "the session ended: look at the object, and watch it anew"
_WATCHERS = itertools.count(1)
"""Each watch is a caller of its own."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Proxy:
    """An object on replicas, called as if it were here.

    Threads may share a proxy. A process that was forked gets a connection and a session of its
    own at its first call. `str()` asks the object; `repr()` never needs the network.
    """

    __slots__ = ("__weakref__", "_call", "_client")

    _class: ClassVar[str] = ""

    def __init__(
        self,
        bootstrap: str = "",
        timeout: float = 60,
        name: str = "",
        session: Session | None = None,
    ) -> None:
        """Connect to the replicas at `bootstrap`, such as `"10.0.0.1:14000, 10.0.0.2:14000"`.

        Domain names may stand in place of addresses, as in `"counterdomain.com"`: their SRV
        records at `_concoord._tcp` are looked up whenever a connection is lost, else their
        addresses. `"counterdomain.com?dns=127.0.0.1:5353"` names the DNS server to ask.

        A call that is not answered within `timeout` seconds raises `CallTimeoutError`; one that
        waits for what others do may take longer. `name` says which object of the class is meant:
        it is made when it is first called. With `session`, that of another proxy or a `Session`,
        in place of `bootstrap`, what both hold lives and ends together.
        """
        if session is None:
            self._use(Client(bootstrap, timeout, type(self), name))
        elif bootstrap:
            message = "give either bootstrap or session: a session has its own"
            raise ValueError(message)
        else:
            self._use(session._client.object(type(self), name))  # noqa: SLF001

    def _use(self, client: Client) -> None:
        self._client = client
        # Bound once: a call goes straight from the method to Rust.
        self._call = client.call

    @property
    def session(self) -> Session:
        """The session, for other proxies to share and to see how it is."""
        return Session._of(self._client)  # noqa: SLF001

    def guarded_by(self, holder: Proxy) -> Self:
        """Make a proxy of the same object whose calls run only while `holder` is held as it is.

        Later, when that is lost or released, they raise `FenceError`: however late a call comes,
        the object itself refuses it. This thread must hold it now.
        """
        from concoord._held import token_of

        client, token = token_of(holder)
        guarded = type(self).__new__(type(self))
        guarded._use(self._client.guarded(client, token))  # noqa: SLF001
        return guarded

    def watch(self) -> Iterator[Any]:
        """Give every change of the object from now on, in order, and wait for more.

        What a change is the class says; one of a class of your own is the call that may have made
        it: `(method, args, kwargs)`. Raises `WatchLostError` if changes were missed.
        """
        client = self._client.called_by(next(_WATCHERS))
        return _changes(client, client.call(WATCH))

    def batch(self) -> Batch:
        """Gather the calls that this thread makes within a `with`; they travel together.

        >>> with counter.batch() as batch:
        ...     counter.increment()
        ...     counter.getvalue()
        >>> batch.results
        [None, 1]

        If the object's class has a `batch` of its own, this is `concoord.batch(proxy)`.
        """
        from concoord._later import Batch

        return Batch(self)

    def close(self) -> None:
        """End the session: what the object holds for it is released at once.

        If the object's class has a `close` of its own, this is `concoord.close(proxy)`.
        """
        self._client.close()

    def __enter__(self) -> Self:
        """Use the proxy for the length of a `with`."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the session."""
        self._client.close()

    def __repr__(self) -> str:
        """Say what is called where."""
        return f"<{type(self).__name__} at {self._client.bootstrap}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process as what it connects to."""
        client = self._client
        return type(self), (client.bootstrap, client.timeout, client.name)


def _changes(client: Client, after: int) -> Iterator[Any]:
    try:
        while True:
            for step, changes in client.call(WATCH, after):
                after = step
                yield from changes
    except SessionExpiredError as error:
        raise WatchLostError(SESSION_ENDED) from error
    finally:
        with contextlib.suppress(ConcoordError):
            client.call(WATCH, False)


class ProxyType(Protocol[T_co]):
    """The class of a proxy: called with the addresses of replicas, it connects."""

    def __call__(
        self,
        bootstrap: str = "",
        timeout: float = 60,
        name: str = "",
        session: Session | None = None,
    ) -> T_co:
        """Connect, as `Proxy` does."""
        ...


def proxy_for(cls: type[T]) -> ProxyType[T]:
    """Make the proxy class of a class, with its methods, signatures, docstrings and types.

    The proxy is used as if it were an object of the class; `with` and `concoord.close` end it.
    """
    # Where a pickle looks for the class: in the module that made it.
    module = sys._getframe(1).f_globals.get("__name__", "")  # noqa: SLF001
    proxy: ProxyType[T] = class_from(interface_of(cls), Proxy, module)
    return proxy


def connect(bootstrap: str, timeout: float = 60) -> Any:
    """Connect to an object whose class is not at hand: the replicas say what can be called."""
    client = Client(bootstrap, timeout, None)
    try:
        cls = class_from(told(client.interface()), Proxy, __name__)
    except (ValueError, SyntaxError) as error:
        client.close()
        message = f"no proxy can be made of what the replicas offer: {error}"
        raise ConcoordError(message) from error
    except BaseException:
        client.close()
        raise
    proxy = cls.__new__(cls)
    proxy._use(client)  # noqa: SLF001 - connected before its class was known
    return proxy


def close(proxy: object) -> None:
    """End the session of a proxy, also of one whose object has a `close` of its own."""
    if not isinstance(proxy, Proxy):
        message = f"a proxy is expected, not {type(proxy).__name__}"
        raise TypeError(message)
    Proxy.close(proxy)


def class_from(interface: Interface, base: type, module: str) -> Any:
    """Make the class, of a module, that has the methods of an interface by means of `base`."""
    # Annotations stay text: their names may mean nothing here.
    source = "from __future__ import annotations\n" + class_source(interface, Style(False, "Base"))
    names: dict[str, Any] = {"Base": base, "__name__": module}
    exec(compile(source, f"<proxy of {interface.name}>", "exec"), names)  # noqa: S102 - our source
    return names[class_name(interface)]


def argument_name(proxy: type, method: str, index: int) -> str | None:
    """Name the argument at a position, for an error message."""
    code = getattr(getattr(proxy, method, None), "__code__", None)
    if code is None or index + 1 >= code.co_argcount:
        return None
    name: str = code.co_varnames[index + 1]
    return name


def batch(proxy: object) -> Batch:
    """Gather the calls of a proxy, also of one whose object has a `batch` of its own."""
    if not isinstance(proxy, Proxy):
        message = f"a proxy is expected, not {type(proxy).__name__}"
        raise TypeError(message)
    return Proxy.batch(proxy)
