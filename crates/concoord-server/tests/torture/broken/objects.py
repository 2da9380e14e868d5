"""An object that is wrong now and then, to see that the torture sees it."""

from __future__ import annotations

import concoord


class Register:
    """Keeps a number, but for some."""

    def __init__(self) -> None:
        """Begin with no key."""
        self.numbers: dict[int, int] = {}

    @concoord.readonly
    def read(self, key: int) -> int:
        """Return the number."""
        return self.numbers.get(key, 0)

    def write(self, key: int, number: int) -> None:
        """Replace the number, unless it is one of five."""
        if number % 5:
            self.numbers[key] = number

    def swap(self, key: int, old: int, new: int) -> bool:
        """Replace the number if it is the old one; whether it was."""
        if self.numbers.get(key, 0) != old:
            return False
        self.numbers[key] = new
        return True
