"""The source of a proxy: what `concoord object` writes is also what is run to make one."""

from __future__ import annotations

import keyword
import textwrap
from inspect import Parameter as Kind
from typing import TYPE_CHECKING, NamedTuple

from concoord._interface import INIT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from concoord._interface import Interface, Method, Parameter

LINE_CHARS_MAX = 100


class Style(NamedTuple):
    """How source is written: as a module that runs, or as a stub."""

    stub: bool
    """Whether only the signatures are wanted."""
    base: str
    """The class to inherit from."""


def class_source(interface: Interface, style: Style) -> str:
    """Write the class that has the methods of an interface."""
    lines = [f"class {class_name(interface)}({style.base}):"]
    body = [_doc_source(interface.doc)] if interface.doc else []
    if not style.stub:
        body.append(f"__slots__ = ()\n_class = {_quoted(interface.name)}")
    body += [_method_source(name, method, style) for name, method in _named(interface.methods)]
    lines.append(textwrap.indent("\n\n".join(body), "    "))
    return "\n".join(lines) + "\n"


def class_name(interface: Interface) -> str:
    """Name the class, without its module."""
    return checked(interface.name.rpartition(".")[2])


def checked(name: str) -> str:
    """Give a name back if it is one: it may have come from anywhere and goes into source."""
    if not name.isidentifier() or keyword.iskeyword(name):
        message = f"{name!r} is no name in Python"
        raise ValueError(message)
    return name


def _quoted(name: str) -> str:
    """Quote the name of a class, after a look at all of its parts."""
    return f'"{".".join(checked(part) for part in name.split("."))}"'


def _named(methods: list[Method]) -> Iterator[tuple[str, Method]]:
    """Name the methods of the proxy.

    `repr` is the proxy's own, since it must not need the network; where the object has no
    other, `str` asks for its `repr`, as `str` does.
    """
    names = {method.name for method in methods}
    for method in methods:
        if method.name != "__repr__":
            yield checked(method.name), method
        elif "__str__" not in names:
            yield "__str__", method


def _method_source(name: str, method: Method, style: Style) -> str:
    receiver = "self"
    while receiver in (parameter.name for parameter in method.parameters):
        receiver += "_"
    returns = method.returns or ("Any" if style.stub else "")
    arrow = f" -> {returns}" if returns else ""
    parameters = [receiver, *_parameters_source(method.parameters, style)]
    head = f"def {name}({', '.join(parameters)}){arrow}:"
    if len(head) + 4 > LINE_CHARS_MAX:
        head = "\n    ".join([f"def {name}(", *(f"{each}," for each in parameters)])
        head += f"\n){arrow}:"
    if style.stub:
        # The class's own word, where it differs from what proxies have of themselves.
        return head + (" ...  # type: ignore[override]" if name == "close" else " ...")
    call = ", ".join([f'"{method.name}"', *_arguments_source(method.parameters)])
    doc = [_doc_source(method.doc)] if method.doc else []
    body = [*doc, f"{'' if name == INIT else 'return '}{receiver}._call({call})"]
    return "\n".join([head, textwrap.indent("\n".join(body), "    ")])


def _parameters_source(parameters: list[Parameter], style: Style) -> Iterator[str]:
    """Write parameters with the marks between their kinds: `a, /, b, *, c`."""
    previous: int = Kind.POSITIONAL_ONLY
    for index, parameter in enumerate(parameters):
        if index and previous == Kind.POSITIONAL_ONLY != parameter.kind:
            yield "/"
        if parameter.kind == Kind.KEYWORD_ONLY and previous < Kind.VAR_POSITIONAL:
            yield "*"
        yield _parameter_source(parameter, style)
        previous = parameter.kind
    if parameters and previous == Kind.POSITIONAL_ONLY:
        yield "/"


def _parameter_source(parameter: Parameter, style: Style) -> str:
    stars = {int(Kind.VAR_POSITIONAL): "*", int(Kind.VAR_KEYWORD): "**"}.get(parameter.kind, "")
    annotation = parameter.annotation or ("Any" if style.stub else "")
    source = stars + checked(parameter.name) + (f": {annotation}" if annotation else "")
    if parameter.default is None:
        return source
    return source + (" = " if annotation else "=") + parameter.default


def _arguments_source(parameters: list[Parameter]) -> Iterator[str]:
    """Write arguments that bind as they came. What may be left out (`...`) goes by name."""
    by_name = False
    for parameter in parameters:
        name = parameter.name
        by_name = by_name or parameter.default == "..."
        if parameter.kind == Kind.VAR_POSITIONAL:
            yield f"*{name}"
        elif parameter.kind == Kind.VAR_KEYWORD:
            yield f"**{name}"
        elif parameter.kind == Kind.KEYWORD_ONLY or (
            by_name and parameter.kind == Kind.POSITIONAL_OR_KEYWORD
        ):
            yield f"{name}={name}"
        else:
            yield name


def _doc_source(doc: str) -> str:
    plain = '"""' not in doc and "\\" not in doc and not doc.endswith('"')
    if not plain or not all(char.isprintable() or char == "\n" for char in doc):
        return repr(doc)
    return f'"""{doc}\n"""' if "\n" in doc else f'"""{doc}"""'
