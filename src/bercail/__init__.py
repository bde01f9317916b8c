"""Bercail makes the machine you own a private, fast and honest AI server."""

__version__ = "0.1.0"
