"""The proxy of a condition."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from concoord._stock import proxy_class

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Condition"]

Base: Any = proxy_class(__name__, "Condition")


class Condition(Base):
    """A condition with a lock of its own, which its holder may acquire again."""

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Wait until `predicate`, which is called here, returns something true.

        Stop after `timeout` seconds. Return what it returned last. The lock must be held, as for
        `wait`, and is while the predicate runs.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while not (result := predicate()):
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return result
