"""The HTTP gateway: OpenAI-compatible, streaming, and quick to notice a client that left."""

from bercail.web.gateway import Gateway

__all__ = ["Gateway"]
