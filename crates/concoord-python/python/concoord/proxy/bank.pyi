from concoord import Proxy

__all__ = ["Bank"]

class Bank(Proxy):
    """A bank: accounts with a balance each, never below 0."""

    def __concoordinit__(self) -> None:
        """Start anew, without accounts."""
    def open(self, accntno: object) -> bool:
        """Open an account with balance 0.0; return False if it is open already."""
    def close(self, accntno: object) -> bool:  # type: ignore[override]
        """Close an account and return True; raise KeyError if there is none."""
    def deposit(self, accntno: object, amount: float) -> float:
        """Add `amount` to an account and return its balance."""
    def debit(self, accntno: object, amount: float) -> float:
        """Take `amount` from an account and return its balance; False if it has less."""
    def balance(self, accntno: object) -> float:
        """Return the balance of an account."""
