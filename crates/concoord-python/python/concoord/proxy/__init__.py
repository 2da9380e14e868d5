"""Proxies of the objects that come ready-made."""
