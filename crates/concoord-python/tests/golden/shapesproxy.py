"""A proxy of shapes.Shapes, written by `concoord object -o shapes.Shapes`."""

from __future__ import annotations

from concoord import Proxy


class Shapes(Proxy):
    'Ends in a backslash: \\\\'

    __slots__ = ()
    _class = "shapes.Shapes"

    def __concoordinit__(self) -> None:
        self._call("__concoordinit__")

    def all_kinds(self, a, /, b, c=1, *rest: int, d, e: str = 'x', **more: decimal.Decimal) -> None:
        return self._call("all_kinds", a, b, c, *rest, d=d, e=e, **more)

    def positional(self, a, b=2, /):
        return self._call("positional", a, b)

    def keyword(self, *, a, b=...):
        return self._call("keyword", a=a, b=b)

    def left_out(self, a, b=..., c=3):
        return self._call("left_out", a, b=b, c=c)

    def known(self, a: Optional[Decimal], b: Local, c: Dict[str, int]) -> Union[int, None]:
        return self._call("known", a, b, c)

    def dotted(self, a: collections.abc.Sequence[int]) -> Any:
        return self._call("dotted", a)

    def of_its_own(self, other: Shapes) -> Unknown:
        return self._call("of_its_own", other)

    def self_is_taken(self_, self):
        """Quote "twice"."""
        return self_._call("self_is_taken", self)

    def long_one(
        self,
        first_argument: int,
        second_argument: int,
        third_argument: int,
        fourth: int,
    ) -> dict[str, int]:
        return self._call("long_one", first_argument, second_argument, third_argument, fourth)

    def __str__(self) -> str:
        return self._call("__str__")
