"""What a class offers to clients: read from the class itself, or told by a replica."""

from __future__ import annotations

import ast
import inspect
import sys
from inspect import Parameter as Kind
from pathlib import Path
from typing import Any, NamedTuple

from concoord._concoord import SPECIAL_METHODS

INIT = "__concoordinit__"
CREATE = "__concoordcreate__"
READ_ONLY = "__concoord_readonly__"

COMMAND = "_concoord_command"
"""The parameter that a method has to learn who calls it. Clients do not see it."""

SOURCE_CHARS_MAX = 1_000
"""Characters of a default or an annotation. What is longer is left out: it is there for people."""

_ANNOTATION_NODES = (
    ast.Expression,
    ast.Name,
    ast.Attribute,
    ast.Subscript,
    ast.Constant,
    ast.Tuple,
    ast.List,
    ast.BinOp,
    ast.BitOr,
    ast.Load,
)


class Parameter(NamedTuple):
    """A parameter of a method."""

    name: str
    """The name, without stars."""
    kind: int
    """How arguments bind to it, in the numbers of `inspect.Parameter`."""
    default: str | None
    """The default as Python source, `...` if only the class has it; `None` if there is none."""
    annotation: str
    """The annotation as Python source; empty where there is none."""


class Method(NamedTuple):
    """A method that clients may call."""

    name: str
    doc: str
    parameters: list[Parameter]
    returns: str
    read_only: bool


class Interface(NamedTuple):
    """What a class offers: enough to make a proxy of it without having it."""

    name: str
    """`module.Class`."""
    doc: str
    methods: list[Method]


def interface_of(cls: type) -> Interface:
    """Read the interface of a class: its public methods, in order of definition."""
    methods = [_method(cls, INIT, inspect.getattr_static(cls, "__init__"))]
    methods += [_method(cls, name, attribute) for name, attribute in callables_of(cls).items()]
    return Interface(f"{module_name(cls)}.{cls.__qualname__}", _doc(cls), methods)


def callables_of(cls: type) -> dict[str, Any]:
    """Find what clients may call, as it stands in the class.

    Plain and static functions only: no property, no class method, and nothing that merely
    happens to be callable, since what those do is no part of the object's state.
    """
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__[:-1]):
        for name, attribute in vars(base).items():
            if (name.startswith("_") and name not in SPECIAL_METHODS) or name == INIT:
                continue
            function = attribute.__func__ if isinstance(attribute, staticmethod) else attribute
            if inspect.isfunction(function):
                found[name] = attribute
            else:
                found.pop(name, None)
    return found


def wants_command(function: Any) -> bool:
    """Tell whether a method is to be told who calls it."""
    return inspect.isfunction(function) and COMMAND in inspect.signature(function).parameters


def module_name(cls: type) -> str:
    """Name the module that replicas import the class from, also for a class of the program."""
    if cls.__module__ != "__main__":
        return cls.__module__
    main = sys.modules["__main__"]
    if main.__spec__ is not None:
        return main.__spec__.name
    return Path(getattr(main, "__file__", None) or "__main__").stem


def told(interface: tuple[str, str, list[Any]]) -> Interface:
    """Take in what a replica says. Source is kept only where it can do nothing but be read."""
    name, doc, methods = interface
    return Interface(
        name,
        doc,
        [
            Method(
                method,
                doc,
                [
                    Parameter(
                        parameter,
                        kind,
                        None if default is None else _literal(default),
                        _annotation(annotation),
                    )
                    for parameter, kind, default, annotation in parameters
                ],
                _annotation(returns),
                read_only,
            )
            for method, doc, parameters, returns, read_only in methods
        ],
    )


def _method(cls: type, name: str, attribute: Any) -> Method:
    function = attribute.__func__ if isinstance(attribute, staticmethod) else attribute
    signature = _signature(cls if name == INIT else function)
    parameters = list(signature.parameters.values())
    if name != INIT and function is attribute:
        parameters = parameters[1:]
    parameters = [each for each in parameters if each.name != COMMAND]
    return Method(
        name,
        "" if function is object.__init__ else _doc(function),
        [
            Parameter(each.name, int(each.kind), _default(each.default), _source(each.annotation))
            for each in parameters
        ],
        "None" if name == INIT else _source(signature.return_annotation),
        bool(getattr(function, READ_ONLY, False)),
    )


def _signature(function: Any) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except ValueError:
        # Written in C and silent about it: the replicas judge.
        kinds = {"args": Kind.VAR_POSITIONAL, "kwargs": Kind.VAR_KEYWORD}
        return inspect.Signature([Kind(name, kind) for name, kind in kinds.items()])


def _doc(of: Any) -> str:
    return inspect.cleandoc(of.__doc__ or "")


def _default(default: Any) -> str | None:
    if default is Kind.empty:
        return None
    return _literal(repr(default))


def _literal(source: str) -> str:
    """Give the source of a literal back as Python writes it, and `...` for any other."""
    if len(source) > SOURCE_CHARS_MAX:
        return "..."
    try:
        return repr(ast.literal_eval(source))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return "..."


def _source(annotation: Any) -> str:
    if annotation is Kind.empty:
        return ""
    source = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return _annotation(source)


def _annotation(source: str) -> str:
    """Give an annotation back if it only names types."""
    if not source or len(source) > SOURCE_CHARS_MAX:
        return ""
    try:
        tree = ast.parse(source, mode="eval")
        if all(isinstance(node, _ANNOTATION_NODES) for node in ast.walk(tree)):
            return ast.unparse(tree)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    return ""
