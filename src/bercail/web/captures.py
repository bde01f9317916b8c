"""Texts of requests and answers, kept in memory within a budget where the owner has switched that on."""

import time
from collections import deque
from collections.abc import Callable, Iterable

from msgspec import json

from bercail.core import access
from bercail.core.captured import Captured, document, harmless, is_text, row, secrets_of, without
from bercail.core.chat import ApiError
from bercail.core.units import Bytes, Seconds
from bercail.ports import Archive
from bercail.web.asgi import JSON, Headers, Message, Push, Receive, Scope, Send
from bercail.web.desk import Answer, Notice
from bercail.web.errors import written
from bercail.web.record import Record

PATH = "/api/captures"
_SHARE = 4
"""One request takes a quarter of the budget at most."""
_HEADERS_BYTES: Bytes = 16 * 1024


class _Text:
    """A body as far as it is kept."""

    def __init__(self, reserve: Callable[[Bytes], bool], most: Bytes) -> None:
        self._reserve = reserve
        self._most = most
        self.data = bytearray()
        self.is_text = True
        self.cut = False

    def add(self, piece: bytes) -> None:
        """The next piece; after the first that does not fit nothing is kept."""
        if self.cut or not self.is_text:
            return
        fits = piece[: self._most - len(self.data)]
        there_is_room = self._reserve(len(fits))
        self.cut = len(fits) < len(piece) or not there_is_room
        if there_is_room:
            self.data += fits

    def kept(self, secrets: Iterable[bytes]) -> bytes | None:
        """What is kept of it; None if it is no text."""
        return without(bytes(self.data), secrets) if self.is_text else None


class Take:
    """One request as it passes."""

    def __init__(self, scope: Scope, reserve: Callable[[Bytes], bool], most: Bytes) -> None:
        self._scope = scope
        self._request, self._response = _Text(reserve, most // 2), _Text(reserve, most // 2)
        self._request.is_text = is_text(scope["headers"])
        self._headers: Headers = []

    @property
    def held_bytes(self) -> Bytes:
        """What it takes of the budget."""
        return len(self._request.data) + len(self._response.data)

    def hear(self, receive: Receive) -> Receive:
        """``receive``, overheard."""

        async def overheard() -> Message:
            message = await receive()
            self._request.add(message.get("body", b""))
            return message

        return overheard

    def tell(self, send: Send) -> Send:
        """``send``, overheard."""

        async def overheard(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._headers = list(message["headers"])
                self._response.is_text = is_text(self._headers)
            else:
                self._response.add(message.get("body", b""))
            await send(message)

        return overheard

    def push(self, push: Push) -> Push:
        """``push``, overheard."""

        def overheard(body: bytes) -> bool:
            taken = push(body)
            if taken:
                self._response.add(body)
            return taken

        return overheard

    def made(self, number: int, at_s: Seconds, record: Record) -> Captured:
        """What is kept of it."""
        headers = self._scope["headers"]
        secrets = secrets_of(headers)
        return Captured(
            id=number, at_s=at_s, endpoint=record.endpoint, path=self._scope["path"], model=record.model,
            key_id=record.key_id, status=record.status, request_headers=harmless(headers),
            request_body=self._request.kept(secrets), response_headers=harmless(self._headers),
            response_body=self._response.kept(secrets), cut=self._request.cut or self._response.cut,
        )  # fmt: skip


class Captures:
    """The latest of them, and those that are passing, within ``budget`` bytes together; 0 keeps nothing.

    An ``archive`` gets each of them as well.
    """

    def __init__(
        self, budget: Bytes, wall: Callable[[], Seconds] = time.time, *, archive: Archive | None = None
    ) -> None:
        self._budget = budget
        self._archive = archive
        self._wall = wall
        self._kept: deque[tuple[Captured, Bytes]] = deque()
        self._used: Bytes = 0
        # Ids go on from the time of the start, so that those of an earlier run in the record mean nothing else now.
        self._number = int(wall() * 1000)

    def begin(self, scope: Scope) -> Take | None:
        """What overhears a request; None if nothing is kept."""
        return Take(scope, self.reserve, self._budget // _SHARE) if self._budget else None

    def end(self, take: Take, record: Record, *, keep: bool) -> None:
        """A request has ended: keep it and give the record its id, or forget it."""
        if not keep or not self.reserve(_HEADERS_BYTES):
            self._used -= take.held_bytes
            return
        self._number += 1
        record.capture_id = self._number
        captured = take.made(self._number, self._wall(), record)
        self._kept.append((captured, take.held_bytes + _HEADERS_BYTES))
        if self._archive is not None:
            self._archive.put(captured)

    def reserve(self, count: Bytes) -> bool:
        """Make room, at the cost of the oldest; False if those that are passing leave none."""
        while self._kept and self._used + count > self._budget:
            self._used -= self._kept.popleft()[1]
        if self._used + count > self._budget:
            return False
        self._used += count
        return True

    def look_up(self, method: str, path: str) -> Notice | None:
        """What answers a request for them; None if it is for something else."""
        if method not in ("GET", "HEAD") or not (path == PATH or path.startswith(f"{PATH}/")):
            return None
        name = path[len(PATH) + 1 :]
        return Notice(tell=lambda _: self._told(name), need=access.Scope.ADMIN)

    def _told(self, name: str) -> Answer:
        if not self._budget:
            words = "no texts are kept here: server.capture is 0 (--capture 16MiB keeps some, in memory)"
            return _missing(words, "captures_off")
        if not name:
            rows = [row(captured) for captured, _ in reversed(self._kept)]
            return 200, [JSON], json.encode({"captures": rows})
        found = next((captured for captured, _ in self._kept if str(captured.id) == name), None)
        if found is None:
            return _missing(f"no capture {name[:40]!r}: there never was one, or others took its room", "no_capture")
        return 200, [JSON], json.encode(document(found))


def _missing(words: str, code: str) -> Answer:
    headers, body = written(ApiError(status=404, message=words, code=code))
    return 404, headers, body
