"""Signatures of all shapes, and annotations from all places."""

import collections.abc
import typing
from decimal import Decimal
from typing import Optional, Union

Alias = typing.Dict[str, int]
SENTINEL = object()


class Local:
    """A class of the module."""


class Shapes:
    r"""Ends in a backslash: \\"""

    def all_kinds(self, a, /, b, c=1, *rest: int, d, e: str = "x", **more: Decimal) -> None: ...

    def positional(self, a, b=2, /): ...

    def keyword(self, *, a, b=SENTINEL): ...

    def left_out(self, a, b=SENTINEL, c=3): ...

    def known(self, a: "Optional[Decimal]", b: "Local", c: Alias) -> "Union[int, None]": ...

    def dotted(self, a: collections.abc.Sequence[int]) -> typing.Any: ...

    def of_its_own(self, other: "Shapes") -> "Unknown": ...  # noqa: F821

    def self_is_taken(this, self):  # noqa: N805
        """Quote "twice".""" ""

    def long_one(
        self, first_argument: int, second_argument: int, third_argument: int, fourth: int
    ) -> dict[str, int]: ...

    def __repr__(self) -> str:
        return "shapes"

    def __str__(self) -> str:
        return "str of shapes"
