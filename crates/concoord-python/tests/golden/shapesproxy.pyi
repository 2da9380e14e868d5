from decimal import Decimal
from shapes import Local
from typing import Any
from typing import Dict
from typing import Optional
from typing import Union
import collections.abc
import decimal

from concoord import Proxy

class Shapes(Proxy):
    'Ends in a backslash: \\\\'

    def __concoordinit__(self) -> None: ...

    def all_kinds(
        self,
        a: Any,
        /,
        b: Any,
        c: Any = 1,
        *rest: int,
        d: Any,
        e: str = 'x',
        **more: decimal.Decimal,
    ) -> None: ...

    def positional(self, a: Any, b: Any = 2, /) -> Any: ...

    def keyword(self, *, a: Any, b: Any = ...) -> Any: ...

    def left_out(self, a: Any, b: Any = ..., c: Any = 3) -> Any: ...

    def known(self, a: Optional[Decimal], b: Local, c: Dict[str, int]) -> Union[int, None]: ...

    def dotted(self, a: collections.abc.Sequence[int]) -> Any: ...

    def of_its_own(self, other: Any) -> Any: ...

    def self_is_taken(self_, self: Any) -> Any: ...

    def long_one(
        self,
        first_argument: int,
        second_argument: int,
        third_argument: int,
        fourth: int,
    ) -> dict[str, int]: ...

    def __str__(self) -> str: ...
