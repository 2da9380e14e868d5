"""The proxy of a BinaryTree."""

from concoord._stock import proxy_class

__all__ = ["BinaryTree"]

BinaryTree = proxy_class(__name__, "BinaryTree")
