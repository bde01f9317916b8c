"""A server that misbehaves by dice: in its start, in its health check, in its answers, in the middle of a stream.

python -m bench.wild PORT VERSION
"""

import json
import os
import random
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Wild(BaseHTTPRequestHandler):
    """A server that answers, or does not."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Its health, sometimes too late."""
        if random.random() < 0.1:
            time.sleep(60)
        self._whole(b'{"status":"ok"}')

    def do_POST(self) -> None:
        """An answer, garbage, or its end."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        fate = random.random()
        if fate < 0.05:
            os._exit(3)
        if fate < 0.1:
            self.wfile.write(b"\x00\xff garbage \r\n\r\n")
            self.close_connection = True
        elif body.get("stream"):
            self._stream(fate)
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
            self._whole(json.dumps({"choices": [choice]}).encode())

    def _whole(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, fate: float) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for number in range(5):
            if fate < 0.15 and number == 2:
                os._exit(4)
            if fate < 0.2 and number == 3:
                time.sleep(45 if fate < 0.16 else 3)
            self.wfile.write(b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n')
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named so by the library
        """Nothing."""


def misbehave(port: int) -> None:
    """Serve at ``port``, or do not."""
    fate = random.random()
    if fate < 0.1:
        sys.exit("error: out of dice")
    if fate < 0.15:
        time.sleep(60)
    time.sleep(random.random())
    ThreadingHTTPServer(("127.0.0.1", port), Wild).serve_forever()


if __name__ == "__main__":
    misbehave(int(sys.argv[1]))
