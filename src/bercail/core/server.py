"""A server of ours that runs on this machine."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from bercail.core.launch import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One.

    Attributes:
        pid: of its process.
        url: where a program on this machine reaches it.
        config: whole path of the configuration that was named to it; empty if none was.
        record: whole path of its record of requests; empty if it keeps none.
    """

    pid: int
    url: str
    config: str = ""
    record: str = ""

    def __str__(self) -> str:
        return f"{self.url} ({self.config})" if self.config else self.url

    @property
    def address(self) -> Address:
        """Where it is asked.

        Raises:
            ValueError: the URL is none.
        """
        parts = urlsplit(self.url)
        if not parts.hostname or not parts.port:
            raise ValueError(self.url)
        return Address(host=parts.hostname, port=parts.port)
