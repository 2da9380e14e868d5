"""Marks that a class puts on its methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from concoord._interface import READ_ONLY

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")


def readonly(method: F) -> F:
    """Mark a method that leaves the object as it is, so that its calls need not be logged.

    A method that is marked and changes the object all the same makes the replicas differ.
    """
    setattr(method, READ_ONLY, True)
    return method
