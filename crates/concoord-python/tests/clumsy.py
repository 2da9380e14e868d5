"""A class with methods that go wrong."""

from __future__ import annotations

import os


class Clumsy:
    def __init__(self) -> None:
        self.steps = 0

    def step(self) -> int:
        self.steps += 1
        return self.steps

    def stumble(self) -> None:
        self.steps += 1
        raise KeyError("a stone", self.steps)

    def wander(self) -> None:
        self.steps += 1
        while True:
            pass

    def fall(self) -> None:
        self.steps += 1
        os.abort()

    def describe(self) -> object:
        self.steps += 1
        return {"by": [self.steps, lambda: None]}
