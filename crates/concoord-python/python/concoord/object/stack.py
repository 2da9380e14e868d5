"""A stack."""

from concoord._stock import local_class

__all__ = ["Stack"]

Stack = local_class(__name__, "Stack")
