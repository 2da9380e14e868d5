"""Entries in the order in which they were written, numbered from 0."""

from concoord._stock import local_class

__all__ = ["Log"]

Log = local_class(__name__, "Log")
