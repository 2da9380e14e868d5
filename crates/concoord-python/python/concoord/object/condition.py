"""A condition."""

from concoord._stock import local_class

__all__ = ["Condition"]

Condition = local_class(__name__, "Condition")
