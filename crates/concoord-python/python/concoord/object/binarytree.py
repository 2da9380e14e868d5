"""A binary search tree."""

from concoord._stock import local_class

__all__ = ["BinaryTree"]

BinaryTree = local_class(__name__, "BinaryTree")
