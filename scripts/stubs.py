"""Writes the types of concoord.aio, which are those of the proxies with every call awaited.

python scripts/stubs.py           # writes them
python scripts/stubs.py --check   # says whether they are as they should be
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "crates/concoord-python/python/concoord"
STUB = PACKAGE / "aio/__init__.pyi"

HEAD = '''\
# Written by scripts/stubs.py.
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any

from typing_extensions import Self

from concoord import Session

__all__ = ["Holder", "Proxy", "proxy_for"]

class Proxy:
    def __init__(
        self,
        bootstrap: str = "",
        timeout: float = 60,
        name: str = "",
        session: Session | Proxy | None = None,
    ) -> None:
        """Name the replicas; they are connected to by the first call."""
    def guarded_by(self, holder: Holder) -> Self:
        """Give a proxy whose calls run only while this task holds what it holds now."""
    def watch(self) -> AsyncIterator[Any]:
        """Give every change of the object from now on, in order, and wait for more."""
    @property
    def session(self) -> Session:
        """The session, for other proxies to share and to see how it is."""
    @property
    def state(self) -> str:
        """How the session is, in the words of `Session.state`."""
    async def close(self) -> None:
        """End the session: what is held is released."""
    async def __aenter__(self) -> Any:
        """Use the proxy for the length of an `async with`."""
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the session."""

class Holder(Proxy):
    @property
    def token(self) -> int:
        """The fencing token of what this task holds."""
    @property
    def lost(self) -> bool:
        """Whether anything held is lost, or may be."""
    async def __aenter__(self) -> int:
        """Acquire; gives the token."""

def proxy_for(cls: type) -> Any:
    """Make the proxy class of a class, whose methods are awaited."""
'''


def awaited(source: str) -> str:
    """Turn a proxy's class into that whose calls are awaited."""
    lines = source.splitlines()
    (made,) = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    kept = [*lines[made.lineno - 1 : made.body[0].end_lineno], ""]
    for method in made.body[1:]:
        assert isinstance(method, ast.FunctionDef), ast.dump(method)
        special = method.name.startswith("__") and method.name != "__concoordinit__"
        if special:
            continue
        body = lines[method.lineno - 1 : method.end_lineno]
        body[0] = body[0].replace("def ", "async def ", 1)
        kept += body
    return "\n".join(kept)


def main() -> int:
    """Write the types, or compare them."""
    proxies = sorted((PACKAGE / "proxy").glob("*.pyi"))
    classes = [awaited(path.read_text()) for path in proxies if path.stem != "__init__"]
    written = "\n\n".join([HEAD.rstrip(), *classes]) + "\n"
    ruff = ["ruff", "format", "--quiet", "--stdin-filename", str(STUB), "-"]
    stub = subprocess.run(ruff, input=written, capture_output=True, text=True, check=True).stdout
    if sys.argv[1:] == ["--check"]:
        if STUB.read_text() != stub:
            print(f"{STUB} is not what scripts/stubs.py writes")
            return 1
        return 0
    STUB.write_text(stub)
    return 0


if __name__ == "__main__":
    sys.exit(main())
