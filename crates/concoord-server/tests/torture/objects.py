"""What the torture replicates, beside the stock counter: objects of many short histories each.

Each method names a key. What is kept under one key is an object of its own to the checker, which
is quick with many short histories and slow with one long one.
"""

from __future__ import annotations

from collections import deque

import concoord


class Register:
    """Keeps a number, 0 at first."""

    def __init__(self) -> None:
        """Begin with no key."""
        self.numbers: dict[int, int] = {}

    @concoord.readonly
    def read(self, key: int) -> int:
        """Return the number."""
        return self.numbers.get(key, 0)

    def write(self, key: int, number: int) -> None:
        """Replace the number."""
        self.numbers[key] = number

    def swap(self, key: int, old: int, new: int) -> bool:
        """Replace the number if it is the old one; whether it was."""
        if self.numbers.get(key, 0) != old:
            return False
        self.numbers[key] = new
        return True


class FetchAdd:
    """Adds up, from 0, and tells the sum before."""

    def __init__(self) -> None:
        """Begin with no key."""
        self.sums: dict[int, int] = {}

    def add(self, key: int, by: int) -> int:
        """Add, and return what was there before."""
        before = self.sums.get(key, 0)
        self.sums[key] = before + by
        return before


class Queue:
    """First in, first out."""

    def __init__(self) -> None:
        """Begin with no key."""
        self.queues: dict[int, deque[int]] = {}

    def enqueue(self, key: int, item: int) -> None:
        """Put an item at the end."""
        self.queues.setdefault(key, deque()).append(item)

    def dequeue(self, key: int) -> int | None:
        """Take the item at the front; None if there is none."""
        queue = self.queues.get(key)
        return queue.popleft() if queue else None


class Lock:
    """Has one owner at most."""

    def __init__(self) -> None:
        """Begin with no key."""
        self.owners: dict[int, int] = {}

    def acquire(self, key: int, owner: int) -> bool:
        """Become the owner unless there is one; whether it worked."""
        if key in self.owners:
            return False
        self.owners[key] = owner
        return True

    def release(self, key: int, owner: int) -> bool:
        """Have no owner any more if this is the one; whether it was."""
        if self.owners.get(key) != owner:
            return False
        del self.owners[key]
        return True
