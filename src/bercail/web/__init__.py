"""The HTTP gateway: OpenAI-compatible, streaming, and quick to notice a client that left."""

from bercail.web.gateway import Gateway
from bercail.web.performance import Performance

__all__ = ["Gateway", "Performance"]
