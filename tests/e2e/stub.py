"""Stands in for ``docker`` and ``llama-server``: an HTTP server that says what it was started with.

As ``docker run ... -p HOST:8080 --name NAME ...`` it leaves a container behind that lives on without its client, and
``docker stop NAME`` ends it. As ``llama-server --port PORT ...`` it serves by itself. Every start is noted in the file
that the variable STUB_LOG names, a line of JSON each.
"""

import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def word_after(words: list[str], flag: str) -> str:
    return words[words.index(flag) + 1]


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    said = ""

    def _say(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self._say({"status": "ok"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if body.get("stream"):
            self._stream()
            return
        message = {"role": "assistant", "content": self.said}
        self._say({
            "id": "1", "object": "chat.completion", "created": 1, "model": body.get("model"), "path": self.path,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        })  # fmt: skip

    def _stream(self) -> None:
        head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        pieces = [{"role": "assistant", "content": None}, {"content": self.said}]
        events = [{**head, "choices": [{"index": 0, "delta": piece, "finish_reason": None}]} for piece in pieces]
        events.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        events.append({**head, "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}})
        data = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named so by the library
        pass


def serve(port: int, said: str) -> None:
    Answers.said = said
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    ThreadingHTTPServer(("127.0.0.1", port), Answers).serve_forever()


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


CONTAINER = ("sh", "-c", 'echo $$ >"$0.new" && mv "$0.new" "$0" && exec "$@"')
"""Its process id stands in its file, whole, before it can answer anybody."""


def docker(words: list[str]) -> None:
    place = Path(os.environ["STUB_LOG"]).parent
    if words[0] == "stop":
        pid = int((place / words[1]).read_text())
        os.kill(pid, signal.SIGTERM)
        while runs(pid):
            time.sleep(0.01)
        (place / words[1]).unlink()
        return
    name, port = word_after(words, "--name"), word_after(words, "-p").partition(":")[0]
    if (place / name).exists():
        sys.exit(f"docker: Error response from daemon: Conflict. The container name /{name} is already in use.")
    flag = "--model" if "--model" in words else "--diffusion-model"
    serving = (sys.executable, __file__, "serve", port, word_after(words, flag))
    container = subprocess.Popen([*CONTAINER, str(place / name), *serving], start_new_session=True)
    container.wait()


def main() -> None:
    role, words = sys.argv[1], sys.argv[2:]
    if role == "serve":
        serve(int(words[0]), words[1])
        return
    with Path(os.environ["STUB_LOG"]).open("a") as log:
        log.write(json.dumps([role, *words]) + "\n")
    if role == "docker":
        docker(words)
    else:
        serve(int(word_after(words, "--port")), word_after(words, "--model"))


if __name__ == "__main__":
    main()
