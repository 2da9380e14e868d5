"""Where an exception was raised, in text that is the same on every replica."""

from __future__ import annotations

import os
import sys
import traceback


def text(error: BaseException) -> str:
    """Format a traceback with its files named as they are imported, wherever they lie."""
    told = traceback.TracebackException.from_exception(error)
    _shorten(told)
    return "".join(told.format())


def _shorten(told: traceback.TracebackException | None) -> None:
    while told is not None:
        for frame in told.stack:
            frame.line  # noqa: B018 - read it now: it is found by the name that changes here
            frame.filename = _relative(frame.filename)
        for inner in getattr(told, "exceptions", None) or ():
            _shorten(inner)
        _shorten(told.__cause__)
        told = told.__context__


def _relative(filename: str) -> str:
    folders = [os.path.join(folder, "") for folder in sys.path if folder]  # noqa: PTH118
    fits = [folder for folder in folders if filename.startswith(folder)]
    return filename[len(max(fits, key=len)) :] if fits else filename
