"""Model files: where they are, what is in them, and whether an engine may have them."""

from bercail.readers.reader import Readers

__all__ = ["Readers"]
