"""The ready-made objects: local classes and proxies over what is written in Rust."""

from __future__ import annotations

from typing import Any, ClassVar

from concoord._concoord import LocalObject, stock_interface
from concoord._interface import INIT, told
from concoord._proxy import Proxy, class_from


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


def local_class(module: str, name: str) -> Any:
    """Make the local class of a ready-made object."""
    return class_from(told(stock_interface(f"{module}.{name}")), Local, module)


def proxy_class(module: str, name: str) -> Any:
    """Make the proxy of a ready-made object, whose module is called as that of the object."""
    of = module.replace("concoord.proxy.", "concoord.object.")
    return class_from(told(stock_interface(f"{of}.{name}")), Proxy, module)
