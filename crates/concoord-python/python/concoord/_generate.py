"""`concoord object`: write the proxy of a class beside its source, for programs without it."""

from __future__ import annotations

import argparse
import ast
import builtins
import inspect
import os
import sys
import typing
from pathlib import Path
from typing import TYPE_CHECKING

from concoord._interface import Interface, Method, interface_of
from concoord._load import LoadError, load_class
from concoord._source import Style, class_name, class_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BASES = {0: "Proxy", 1: "Proxy", 2: "BatchProxy", 3: "AsyncProxy"}
"""What a proxy is one of, by the number that `-p` gives. Any `Proxy` may block, as the original's
of kind 1 did."""

OFFERED = frozenset({"Any", "Future", *BASES.values()})
"""Names that a stub has for itself."""


class GenerateError(Exception):
    """No proxy can be written; the message says why and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns 4 if the class can't be had, 1 if no proxy can be written."""
    parser = argparse.ArgumentParser(
        prog="concoord object",
        description="Write the proxy of a class beside its source.",
    )
    parser.add_argument(
        "-o",
        "--objectname",
        required=True,
        metavar="OBJECTNAME",
        help="client object dotted name: module.Class",
    )
    parser.add_argument(
        "-p",
        "--proxytype",
        type=int,
        choices=sorted(BASES),
        default=0,
        help="0 or 1: a call waits for its result; 2: calls are kept back to travel together; "
        "3: each call returns a future",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="say what is done")
    options = parser.parse_args(arguments)
    say = print if options.verbose else lambda *_: None
    try:
        say(f"Importing {options.objectname}")
        cls = load_class(options.objectname)
        interface = interface_of(cls)._replace(name=options.objectname)
        for method in interface.methods:
            say(f"  {method.name}{' (read-only)' if method.read_only else ''}")
        say("Creating the proxy")
        path = write(cls, interface, BASES[options.proxytype])
    except (LoadError, GenerateError) as error:
        print(f"concoord object: {error}", file=sys.stderr)  # noqa: T201
        return 4 if isinstance(error, LoadError) else 1
    print("Client proxy file created with name: ", path)  # noqa: T201
    return 0


def write(cls: type, interface: Interface, base: str = "Proxy") -> Path:
    """Write the proxy and its stub; returns the path of the proxy."""
    try:
        source = Path(inspect.getfile(cls))
    except (TypeError, OSError) as error:
        message = f"{interface.name} has no source file to put a proxy beside"
        raise GenerateError(message) from error
    path = source.with_name(f"{source.stem}proxy.py")
    try:
        _replace(path, proxy_source(interface, base))
        _replace(path.with_suffix(".pyi"), stub_source(cls, interface, base))
    except OSError as error:
        message = f"can't write {error.filename or path}: {error.strerror}"
        raise GenerateError(message) from error
    return path


def proxy_source(interface: Interface, base: str = "Proxy") -> str:
    """Write the module of a proxy."""
    return (
        f'"""A proxy of {interface.name}, written by `concoord object -o {interface.name}`."""\n\n'
        "from __future__ import annotations\n\n"
        f"from concoord import {base}\n\n\n" + class_source(interface, Style(False, base))
    )


def stub_source(cls: type, interface: Interface, base: str = "Proxy") -> str:
    """Write what type checkers are to see of it."""
    imports = _Imports(cls)
    typed = imports.known(interface)
    lines = {"from typing import Any", *imports.lines}
    if base != "Proxy":
        lines.add("from concurrent.futures import Future")
        typed = typed._replace(methods=[_of_future(method) for method in typed.methods])
    return "\n".join([*sorted(lines), "", f"from concoord import {base}", "", ""]) + class_source(
        typed, Style(True, base)
    )


def _of_future(method: Method) -> Method:
    return method._replace(returns=f"Future[{method.returns or 'Any'}]")


class _Imports:
    """The imports that a stub needs for the names of its annotations."""

    def __init__(self, cls: type) -> None:
        self.lines: set[str] = set()
        self._cls = cls
        self._module = sys.modules[cls.__module__]
        self._imported = dict(_imports(self._module))

    def known(self, interface: Interface) -> Interface:
        """Replace annotations that name what can't be imported by none."""
        return interface._replace(
            methods=[
                method._replace(
                    returns=self._annotation(method.returns),
                    parameters=[
                        each._replace(annotation=self._annotation(each.annotation))
                        for each in method.parameters
                    ],
                )
                for method in interface.methods
            ]
        )

    def _annotation(self, source: str) -> str:
        names = {
            node.id for node in ast.walk(ast.parse(source or "''")) if isinstance(node, ast.Name)
        }
        lines = [self._line(name, source) for name in sorted(names)]
        if None in lines:
            return ""
        self.lines.update(line for line in lines if line)
        return source

    def _line(self, name: str, source: str) -> str | None:
        """Import a name as the class's module does, or from there; empty if none is needed."""
        if name == class_name(Interface(self._cls.__name__, "", [])):
            return None  # the proxy's own name
        if name in self._imported:
            return self._imported[name]
        if name in vars(self._module):
            return f"from {self._module.__name__} import {name}"
        if name in vars(builtins) or name in OFFERED:
            return ""
        if hasattr(typing, name):
            return f"from typing import {name}"
        modules = [dotted for dotted in _prefixes(name, source) if dotted in sys.modules]
        return f"import {modules[-1]}" if modules else None


def _imports(module: object) -> Iterator[tuple[str, str]]:
    """Pair each name that a module imports at its top, or for types only, with the import."""
    try:
        tree = ast.parse(inspect.getsource(module))  # type: ignore[arg-type]
    except (OSError, TypeError, SyntaxError):
        return
    package = getattr(module, "__package__", "") or ""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                as_name = f" as {alias.asname}" if alias.asname else ""
                bound = alias.asname or alias.name.partition(".")[0]
                yield bound, f"import {alias.name}{as_name}"
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            parts = package.split(".")
            above = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            origin = ".".join(part for part in (above, node.module) if part)
            for alias in node.names:
                as_name = f" as {alias.asname}" if alias.asname else ""
                yield alias.asname or alias.name, f"from {origin} import {alias.name}{as_name}"


def _prefixes(name: str, source: str) -> Iterator[str]:
    """List the dotted names that start with `name` in an annotation, the shortest first."""
    yield name
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith(f"{name}."):
            yield ast.unparse(node)


def _replace(path: Path, source: str) -> None:
    """Write a file whole or not at all."""
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_text(source, encoding="utf-8")
        os.replace(new, path)  # noqa: PTH105 - its errors name both
    finally:
        new.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
