"""Finding the class that `-o module.Class` names, with words for what can go wrong."""

from __future__ import annotations

import importlib
import os
import sys

from concoord import _traceback


class LoadError(Exception):
    """The class can't be had; the message says why and what to do."""


def load_class(name: str) -> type:
    """Import a class by its dotted name, through PYTHONPATH and the current folder."""
    module_name, _, class_name = name.rpartition(".")
    if not module_name or not class_name:
        message = f"'{name}' names no class: it should be like module.Class"
        raise LoadError(message)
    here = os.getcwd()  # noqa: PTH109 - sys.path holds strings
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name != missing and not module_name.startswith(f"{missing}."):
            raise LoadError(_failed(module_name, error)) from error
        message = (
            f"there is no module '{missing}' for {name}: start in the folder that it is in, or "
            "name that folder in PYTHONPATH"
        )
        raise LoadError(message) from error
    except Exception as error:
        raise LoadError(_failed(module_name, error)) from error
    except SystemExit as error:
        raise LoadError(_failed(module_name, error)) from error
    found = getattr(module, class_name, None)
    if isinstance(found, type):
        return found
    classes = [each.__name__ for each in vars(module).values() if _is_of(module_name, each)]
    message = f"module '{module_name}' has no class '{class_name}'"
    if classes:
        message += f"; it has {', '.join(classes)}"
    raise LoadError(message)


def _is_of(module_name: str, each: object) -> bool:
    return isinstance(each, type) and each.__module__ == module_name


def _failed(module_name: str, error: BaseException) -> str:
    return f"module '{module_name}' can't be imported:\n{_traceback.text(error)}".rstrip()
