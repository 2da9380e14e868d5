"""The objects that come ready-made, as ordinary local classes."""
