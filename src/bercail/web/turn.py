"""One request's life: its task, its reply, and how both end when the client leaves or the server stops."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from bercail.core.chat import ApiError, named
from bercail.core.dialect import Form
from bercail.core.overflow import Overflow
from bercail.core.trimming import Trimmed
from bercail.core.units import Seconds
from bercail.web.asgi import CLOSE, Headers, Message, Push, Receive, Send, Watch, answer, refuse
from bercail.web.errors import event, written
from bercail.web.gate import Visit
from bercail.web.record import Record
from bercail.web.silence import Silence
from bercail.web.sse import PING, comment
from bercail.web.trim import header, marked

STREAM_HEADERS: Headers = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
CUT_S: Seconds = 1.0
"""How long a client that is cut may take to read why."""


class Asked(NamedTuple):
    """How a request came, apart from its body; ``at_s`` is in unix seconds."""

    number: int
    at_s: Seconds
    method: str
    headers: Headers
    client: str


class Stream:
    """A stream to a client: its headers wait for the first byte, and silence is filled with comments.

    Attributes:
        headers: what it will begin with.
        started: it has.
        voice: how it says a sentence while its model is awaited; b"" if it has no way to.
        mark: what is done to events before they are sent.
    """

    started = False
    _ping: asyncio.Task[None] | None = None
    _tidings: Callable[[], bytes] | None = None
    _tidings_s: Seconds = 0.0

    def __init__(
        self,
        send: Send,
        silence: Silence,
        *,
        ping: bytes = PING,
        headers: Headers = STREAM_HEADERS,
        voice: Callable[[str], bytes] = comment,
        push: Push | None = None,
    ) -> None:
        self.headers = headers
        self.voice = voice
        self.mark: Callable[[bytes], bytes] = _as_it_is
        self._ping_bytes = ping
        self._send = send
        self._push = push
        self._keep_alive_s = silence.keep_alive_s
        self._alarms = silence.alarms
        self._loop = asyncio.get_running_loop()
        self._last_s = self._loop.time()
        self._held_until_s = self._last_s + silence.hold_s
        self._alarms.set(self, self._held_until_s)

    async def write(self, events: bytes) -> None:
        """Send whole events, with the headers before the first."""
        if self._ping is not None:
            await self._ping
        if not self.started:
            await self._send(self._head())
        self._last_s = self._loop.time()
        await self._send({"type": "http.response.body", "body": self.mark(events), "more_body": True})

    def push(self, events: bytes) -> bool:
        """Send whole events of a stream that has begun; False, and nothing is sent, if only ``write`` can do that.

        No events at all only ask: what is pushed before anything else runs is then sent.
        """
        if self._push is None or self._ping is not None or not self._push(self.mark(events)):
            return False
        self._last_s = self._loop.time()
        return True

    async def end(self, events: bytes) -> None:
        """Send the last events and end the stream as a whole one."""
        self.close()
        if self._ping is not None:
            await self._ping
        if not self.started:
            await self._send(self._head())
        await self._send({"type": "http.response.body", "body": self.mark(events), "more_body": False})

    def listen(self, tidings: Callable[[], bytes], *, after_s: Seconds, every_s: Seconds) -> None:
        """From now on ask for tidings every ``every_s``, b"" where there are none, and send them."""
        self._tidings, self._tidings_s = tidings, every_s
        self._alarms.set(self, self._loop.time() + after_s)

    def heard(self) -> None:
        """No more tidings: silence is filled as before."""
        self._tidings = None
        self._alarms.set(self, self._last_s + self._keep_alive_s if self.started else self._held_until_s)

    def close(self) -> None:
        """No more comments."""
        self._alarms.stop(self)

    def abandon(self) -> None:
        """Nothing more at all: nobody reads it."""
        self._alarms.stop(self)
        if self._ping is not None:
            self._ping.cancel()

    def _head(self) -> Message:
        """What it begins with, which is to be sent now."""
        self.started = True
        return {"type": "http.response.start", "status": 200, "headers": self.headers}

    def ring(self) -> None:
        """Silence has lasted as long as it may, if nothing has been written since this was set."""
        now_s = self._loop.time()
        rest_s = self._last_s + self._keep_alive_s - now_s
        if self._tidings is not None:
            self._alarms.set(self, now_s + self._tidings_s)
            # Who does not read what was said last is told nothing more.
            if self._ping is None and (said := self._tidings() or (b"" if rest_s > 0.001 else self._ping_bytes)):
                self._ping = self._loop.create_task(self._say(said))
        elif self.started and rest_s > 0.001:
            self._alarms.set(self, now_s + rest_s)
        else:
            self._alarms.set(self, now_s + self._keep_alive_s)
            if self._ping is None:
                self._ping = self._loop.create_task(self._say(self._ping_bytes))

    async def _say(self, said: bytes) -> None:
        """Only whole events are ever written, so a comment never falls into one."""
        try:
            if not self.started:
                await self._send(self._head())
            self._last_s = self._loop.time()
            await self._send({"type": "http.response.body", "body": said, "more_body": True})
        finally:
            self._ping = None


class Turn:
    """One request from its first byte to the end of its answer.

    Attributes:
        record: what the metrics get to know.
        visit: how it came in, or None if it has not.
        payload: the body for the engine, until it has been sent.
        form: the words that errors are told in.
        overflow: what becomes of a prompt that is too long, as soon as its model is known.
        stream: the reply, if the client asked for a stream.
        begun: an answer of the engine's own is on its way, which nothing of ours can follow.
        gone: the client has left.
        cut: why the server ends this request, or None.
        unread: the body has not been read to its end, so nothing can follow on this connection.
        substitutes: ids of models that may answer if its own is not there.
        headers: that go with a whole answer beside its own.
        farewell: the last events of a stream that fails, where its dialect has an end for that; else b"".
        asked: how it came; None if nobody but itself gets to know.
    """

    visit: Visit | None = None
    payload = b""
    overflow = Overflow.ERROR
    stream: Stream | None = None
    begun = gone = False
    cut: ApiError | None = None
    unread = True
    substitutes: tuple[str, ...] = ()
    asked: Asked | None = None
    _ending = False
    _watcher: asyncio.Task[None] | None = None

    def __init__(self, receive: Receive, send: Send, record: Record, form: Form = Form.OPENAI) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request is answered within a task")
        self.task = task
        self.receive = receive
        self.record = record
        self.form = form
        self.headers: Headers = []
        self.farewell: Callable[[ApiError], bytes] = _no_farewell
        self.send = send
        self._answered: Headers = []
        self._mark: Callable[[bytes], bytes] = _as_it_is

    def watch(self, watch: Watch | None) -> None:
        """The body has been read: from now on the end of the connection cancels this request's task.

        Args:
            watch: how the server tells of that end, which is cheaper than a task that waits for it.
        """
        self.unread = False
        if watch is not None:
            watch(self._leave)
        else:
            self._watcher = asyncio.get_running_loop().create_task(self._wait_for_end())

    async def _wait_for_end(self) -> None:
        message: Message = {"type": ""}
        while message["type"] != "http.disconnect":
            message = await self.receive()
        self._leave()

    def _leave(self) -> None:
        if not self._ending:
            self.gone = self._ending = True
            self.task.cancel()

    def stop(self, why: ApiError) -> bool:
        """End the request from outside; False if it is ending anyway."""
        if self._ending:
            return False
        self.cut, self._ending = why, True
        self.task.cancel()
        return True

    def was_stopped(self) -> bool:
        """The cancellation that was just caught came from here; the task may then go on to clean up."""
        if not (self.gone or self.cut):
            return False
        while self.task.cancelling():
            self.task.uncancel()
        return True

    @property
    def answer_headers(self) -> Headers:
        """Those of its answer; none before it has begun."""
        return self.stream.headers if self.stream is not None and self.stream.started else self._answered

    async def tell_trimmed(self, trimmed: Trimmed) -> None:
        """Have the answer say how much of the request was left out: in a header, and beside its counts."""
        self.record.trimmed_tokens = trimmed.tokens
        told, self._mark = header(trimmed), partial(marked, trimmed=trimmed)
        self.headers += told
        if self.stream is not None:
            self.stream.headers = [*self.stream.headers, *told]
            self.stream.mark = self._mark
            if self.stream.started and self.form is not Form.OLLAMA:  # lines of JSON have no comments
                await self.stream.write(comment(f"trimmed {trimmed}"))

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer at once, and be done."""
        self._ending = True
        body = self._mark(body)
        self.record.status = status
        self.record.response_bytes += len(body)
        self._answered = [*headers, *self.headers]
        await answer(self.send, status, self._answered, body)

    async def end_stream(self, events: bytes) -> None:
        """Send the last events, end the stream as a whole one, and be done."""
        self._ending = True
        self.record.status = 200
        if self.stream is not None:
            await self.stream.end(events)

    async def begin(self, status: int, headers: Headers) -> None:
        """Begin an answer of the engine's own; its head goes out now, whenever its first piece may come."""
        self.begun = True
        self.record.status = status
        self._answered = headers
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": b"", "more_body": True})

    async def piece(self, body: bytes, *, more: bool = True) -> None:
        """Go on with such an answer, or end it."""
        self._ending = self._ending or not more
        self.record.response_bytes += len(body)
        await self.send({"type": "http.response.body", "body": body, "more_body": more})

    async def fail(self, error: ApiError) -> None:
        """Answer with an error: with its status if that is still open, else as an event and a broken connection."""
        self._ending = True
        error = named(error, self.record.model)
        self.record.status, self.record.error = error.status, error.code or error.kind
        if self.stream is not None:
            self.stream.close()
        if self.begun:
            return
        if self.stream is not None and self.stream.started:
            await self._break_off(self.stream, error)
            return
        headers, body = written(error, self.form)
        if self.unread:
            self.record.response_bytes += len(body)
            self._answered = [*headers, CLOSE]
            await refuse(self.receive, self.send, error.status, self._answered, body)
        else:
            await self.whole(error.status, headers, body)

    async def _break_off(self, stream: Stream, error: ApiError) -> None:
        """End a stream as its dialect ends those that fail; where none does so, its client sees a broken connection."""
        if last := self.farewell(error):
            await stream.end(last)
        else:
            await stream.write(event(error, self.form))

    async def fail_cut(self, error: ApiError) -> None:
        """Tell a client that is cut, unless it does not read."""
        self.record.aborted = True
        with suppress(TimeoutError):
            async with asyncio.timeout(CUT_S):
                await self.fail(error)

    def close(self) -> None:
        """Let go of timers and tasks; harmless to repeat."""
        self._ending = True
        if self._watcher is not None:
            self._watcher.cancel()
        if self.stream is not None:
            self.stream.abandon()


def _no_farewell(_: ApiError) -> bytes:
    return b""


def _as_it_is(data: bytes) -> bytes:
    return data
