"""The ready-made objects: local classes and proxies over what is written in Rust."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from concoord._concoord import LocalObject, stock_interface
from concoord._held import Holder, undoes
from concoord._interface import INIT, told
from concoord._proxy import Proxy, class_from
from concoord.exception import ConcoordError

if TYPE_CHECKING:
    from concoord._interface import Interface

WAYS = {
    "Lock": {"acquire": "release"},
    "RLock": {"acquire": "release"},
    "Semaphore": {"acquire": "release"},
    "BoundedSemaphore": {"acquire": "release"},
    "Condition": {"acquire": "release"},
    "Election": {"campaign": "resign"},
    "ReadWriteLock": {"acquire_write": "release_write", "acquire_read": "release_read"},
}
"""Of the classes that give tokens out, what does, and what takes them back; `with` is the first."""


REPR_SECONDS = 1.0
"""How long `repr` waits for the object: it is asked for by debuggers and logs, too."""

PROPERTIES = {"Barrier": ("parties", "n_waiting", "broken")}
"""What Python's own class has as attributes."""


class Local:
    """A ready-made object in this process, by the code that replicas run."""

    __slots__ = ("__weakref__", "_call", "_object")

    _class: ClassVar[str] = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make the object, with the arguments of `__concoordinit__`."""
        self._use(LocalObject(self._class))
        if args or kwargs:
            self._call(INIT, *args, **kwargs)

    def _use(self, native: LocalObject) -> None:
        self._object = native
        self._call = native.call

    def __getstate__(self) -> bytes:
        """Give the whole state, for pickles and copies."""
        return self._object.snapshot()

    def __setstate__(self, state: bytes) -> None:
        """Become what `__getstate__` gave."""
        self._use(LocalObject(self._class))
        self._object.restore(state)


class LocalHolder(Local):
    """A ready-made object in this process that is acquired and released."""

    __slots__ = ()

    _ways: ClassVar[dict[str, str]] = {}

    def _use(self, native: LocalObject) -> None:
        self._object = native
        ways = self._ways

        def call(method: str, /, *args: Any, **kwargs: Any) -> Any:
            result = native.call(method, *args, **kwargs)
            # A token is for replicas: here, as in `threading`, it is got or not.
            return result is not False if method in ways else result

        self._call = call

    def __enter__(self) -> bool:
        """Acquire."""
        return bool(self._call(next(iter(self._ways))))

    def __exit__(self, *_: object) -> None:
        """Release."""
        self._call(next(iter(self._ways.values())))


def local_class(module: str, name: str) -> Any:
    """Make the local class of a ready-made object."""
    interface = told(stock_interface(f"{module}.{name}"))
    base = with_ways(LocalHolder, name, interface) if name in WAYS else Local
    made = _with_properties(class_from(interface, base, module))
    if any(method.name == "__repr__" for method in interface.methods):
        made.__repr__ = _repr
    return made


def proxy_class(module: str, name: str) -> Any:
    """Make the proxy of a ready-made object, whose module is called as that of the object."""
    of = module.replace("concoord.proxy.", "concoord.object.")
    interface = told(stock_interface(f"{of}.{name}"))
    base = with_ways(Holder, name, interface) if name in WAYS else Proxy
    made = _with_properties(class_from(interface, base, module))
    if any(method.name == "__repr__" for method in interface.methods):
        made.__repr__ = _said
    return made


def _with_properties(made: Any) -> Any:
    for name in PROPERTIES.get(made.__name__, ()):
        setattr(made, name, property(getattr(made, name)))
    return made


def _repr(local: Local) -> str:
    said: str = local._call("__repr__")  # noqa: SLF001 - one of ours
    return said


def _said(proxy: Any) -> str:
    """Say what the object says of itself; where it does not at once, what is called where."""
    try:
        said: str = proxy._client.within(REPR_SECONDS).call("__repr__")  # noqa: SLF001
    except ConcoordError:
        return Proxy.__repr__(proxy)
    return said


def with_ways(base: type, name: str, interface: Interface) -> type:
    """Make a base of the class of that name that knows what gets and what gives back."""
    ways = WAYS[name]
    given_up = undoes(ways, {method.name for method in interface.methods})
    names = {"__slots__": (), "_ways": ways, "_undoes": given_up}
    return type(base.__name__, (base,), names)
