from typing import Any

__all__ = ["NameserverCoord"]

class NameserverCoord:
    """The nodes of subdomains, by their types."""

    def __init__(self, domain: str = "openreplica.org.") -> None: ...
    def __concoordinit__(self, domain: str = "openreplica.org.") -> None:
        """Start anew, without subdomains of `domain`."""
    def addnodetosubdomain(self, subdomain: str, nodetype: object, node: object) -> None:
        """Add a node, and its subdomain if that is new."""
    def delnodefromsubdomain(self, subdomain: str, nodetype: object, node: object) -> None:
        """Remove a node; raise KeyError if it is not there."""
    def delsubdomain(self, subdomain: str) -> None:
        """Remove a subdomain; raise KeyError if it is not there."""
    def updatesubdomain(self, subdomain: str, nodes: dict[Any, Any]) -> None:
        """Have a subdomain with these nodes and no others.

        They are a dict of a list or a set of nodes for each type.
        """
    def getnodes(self, subdomain: str) -> dict[Any, list[Any]]:
        """Return the nodes, a list for each type; raise KeyError if the subdomain is not there."""
    def getsubdomains(self) -> list[str]:
        """Return the names of the subdomains."""
    def getdomains(self) -> list[str]:
        """Return the names of the subdomains with the domain's."""
