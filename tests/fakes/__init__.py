"""Typed fakes, one per port."""
