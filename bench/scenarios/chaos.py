"""A server under everything that can go wrong at once, for so long; nothing may be lost and nothing may be left.

Served are the model in the box on the real engine and four commands whose server misbehaves by dice: it starts late,
never answers its health check, ends while it starts, sends garbage, hangs or dies in the middle of a stream. Clients
ask without pause, and some leave early; engines are killed with SIGKILL; the configuration is read anew again and
again, changed, unchanged or broken. Counted is what became of every request; then what is left is looked for.

    python -m bench.scenarios.chaos [--seconds 60] [--clients 20] [--seed 1] [--json FILE]
"""

import argparse
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from bercail.demo import demo_path
from tools.figures import publish

PATIENCE_S = 120.0
NAMES = ("one", "two", "three", "four")


def main(argv: Sequence[str] | None = None) -> int:
    if len(sys.argv) > 2 and sys.argv[1] == "--misbehave":
        misbehave(int(sys.argv[2]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="default %(default)s")
    parser.add_argument("--clients", type=int, default=20, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="of all dice but those of the servers; default %(default)s")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        found = play(Path(place), given.seconds, given.clients, given.seed)
    publish(found, given.json)
    return 0 if not found["unanswered"] and not found["left"] and found["ended"] == 0 else 1


def play(place: Path, seconds: float, clients: int, seed: int) -> dict[str, object]:
    """The whole scene; what became of it."""
    config = place / "bercail.yaml"
    config.write_text(configuration(0))
    environment = {**os.environ, "HOME": str(place), "XDG_CACHE_HOME": str(place / "cache")}
    command = [sys.executable, "-m", "bercail", "serve", "--config", str(config), "--json-log", "--port", "0"]
    log = (place / "stderr").open("w")
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    assert server.stdout is not None
    news = map(json.loads, server.stdout)
    url = next(item["url"] for item in news if item["event"] == "listening")
    seen: Counter[str] = Counter()
    threading.Thread(target=lambda: seen.update(item["event"] for item in news), daemon=True).start()
    over = time.monotonic() + seconds
    fates: Counter[str] = Counter()
    threads = [
        threading.Thread(target=client, args=(url, over, random.Random(seed + n), fates)) for n in range(clients)
    ]
    threads += [threading.Thread(target=trouble, args=(server, config, over, random.Random(seed - 1)))]
    descriptors = count_descriptors(server.pid)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 2 * PATIENCE_S)
    calm = ask(url, "bercail-demo", {}, PATIENCE_S)
    resident = resident_bytes(server.pid)
    time.sleep(2)
    after = count_descriptors(server.pid)
    server.send_signal(signal.SIGTERM)
    ended = server.wait(60)
    time.sleep(1)
    return {
        "seconds": seconds, "clients": clients, "seed": seed, "requests": sum(fates.values()), "fates": dict(fates),
        "unanswered": fates["unanswered"], "afterwards": calm, "events": dict(seen), "ended": ended,
        "descriptors": [descriptors, after], "resident_bytes": resident, "left": left_behind(place),
        "traces": (place / "stderr").read_text().count("Traceback"),
    }  # fmt: skip


def configuration(version: int) -> str:
    """Four servers that misbehave, in two groups, beside the model in the box."""
    me = f"{sys.executable} -m bench.scenarios.chaos --misbehave"
    models = "\n".join(
        f"  {name}:\n    cmd: {me} ${{PORT}} {version if name == 'one' else 0}\n    healthCheckTimeout: 5\n    ttl: 5"
        for name in NAMES
    )
    return (
        f"groups:\n  a: {{members: [one, two], exclusive: false}}\n  b: {{members: [three, four], exclusive: false}}\n"
        f"models:\n{models}\n  bercail-demo:\n    model: {demo_path()}\n    context: 1024\n"
    )


def client(url: str, over: float, dice: random.Random, fates: Counter[str]) -> None:
    """Ask until it is over; what became of each request is counted."""
    while time.monotonic() < over:
        model = dice.choice((*NAMES, "bercail-demo", "nobody"))
        body = {"stream": dice.random() < 0.6, "max_tokens": dice.choice((1, 20))}
        patience = dice.choice((PATIENCE_S, PATIENCE_S, PATIENCE_S, 0.05))
        fates[ask(url, model, body, patience)] += 1


def ask(url: str, model: str, more: Mapping[str, object], patience_s: float) -> str:
    """What became of one request: its status, ``broken`` in the middle, ``left`` by the client, or ``unanswered``."""
    body = {"model": model, "messages": [{"role": "user", "content": "What is a KV cache?"}], "temperature": 0, **more}
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=patience_s)
    status = 0
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        status = response.status
        text = response.read()
        broken = status == 200 and b"[DONE]" not in text and not text.rstrip().endswith(b"}")
        return "broken" if broken else str(status)
    except TimeoutError:
        return "unanswered" if patience_s == PATIENCE_S else "left"
    except (http.client.HTTPException, OSError):
        return "broken" if status else "refused"
    finally:
        connection.close()


def trouble(server: "subprocess.Popen[str]", config: Path, over: float, dice: random.Random) -> None:
    """Kill engines, and have the configuration read anew."""
    version = 0
    while time.monotonic() < over:
        time.sleep(dice.random() * 2)
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        if children and dice.random() < 0.5:
            with suppress(ProcessLookupError):
                os.kill(int(dice.choice(children)), signal.SIGKILL)
        if dice.random() < 0.5:
            version += dice.random() < 0.5
            config.write_text("models: [" if dice.random() < 0.3 else configuration(version))
            for _ in range(dice.choice((1, 5))):
                server.send_signal(signal.SIGHUP)


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
                time.sleep(3)
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


def count_descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def left_behind(place: Path) -> list[str]:
    """Processes that belong to this scene and outlived it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"HOME={place}".encode() in entry.read_bytes().split(b"\0"):
                found.append(entry.with_name("cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


if __name__ == "__main__":
    sys.exit(main())
