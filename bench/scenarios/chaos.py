"""A server under everything that can go wrong at once, for so long; nothing may be lost and nothing may be left.

Served are the model in the box on the real engine and four commands whose server misbehaves by dice: it starts late or
hangs in its start, hangs in its health check, ends while it starts, sends garbage, hangs or dies in the middle of a
stream. Clients ask without pause; some leave early, some in the middle of their request, some send or read a few bytes
at a time. Engines are killed, or stopped where they stand: the real one for good, commands for a while, for nobody can
know of a command that it should have answered by now. The disk with the server's state runs full and is freed
again (where a file system may be mounted); the configuration is read anew again and again, changed, unchanged or
broken. Counted is what became of every request; then, with all models unloaded, what is left is looked for.

    python -m bench.scenarios.chaos [--seconds 60] [--clients 20] [--seed 1] [--json FILE]
"""

import argparse
import http.client
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypedDict
from urllib.parse import urlsplit
from urllib.request import urlopen

from bercail.demo import demo_path
from tools.figures import publish

PATIENCE_S = 240.0
"""Longer than anything that may rightly last: 60 s in line, starts that hang, two minutes until an engine that is at
work and does not answer is given up."""
CONTEXTS_BYTES = 2 * 1024 * 1024
"""Of it, for contexts of models that left memory."""
STATE_BYTES = 8 * 1024 * 1024
"""Disk for what the server keeps."""
SLACK = 4
"""Descriptors that a server which has worked may hold more than a fresh one: its database, its log."""
GROWTH = 1.25
"""How much more memory the last quarter may take than the second."""
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as place, small_disk(Path(place) / "state") as full:
        found = play(Path(place), given, full)
    publish(found, given.json)
    return 1 if found["wrong"] else 0


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A folder on a disk of its own, which is soon full; whether that could be had."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={STATE_BYTES}", "tmpfs", folder], check=False)
    try:
        yield mounted.returncode == 0
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", folder], check=True)


def play(place: Path, given: argparse.Namespace, full: bool) -> dict[str, object]:  # noqa: FBT001 - from ``small_disk``
    """The whole scene; what became of it."""
    config = place / "bercail.yaml"
    config.write_text(configuration(0))
    environment = {
        **os.environ, "HOME": str(place), "XDG_CACHE_HOME": str(place / "cache"), "XDG_STATE_HOME": str(place / "state")
    }  # fmt: skip
    command = [sys.executable, "-m", "bercail", "serve", "--config", str(config), "--json-log", "--port", "0"]
    log = (place / "stderr").open("w")
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    assert server.stdout is not None
    news = map(json.loads, server.stdout)
    url = next(item["url"] for item in news if item["event"] == "listening")
    seen: Counter[str] = Counter()
    threading.Thread(target=lambda: seen.update(item["event"] for item in news), daemon=True).start()
    watched = Watched(server, place / "state")
    before = watched.look()
    fates, troubles = storm(url, server, config, given, watched, full=full)
    calm = recover(url)
    unload(url, watched)
    after = watched.look()
    server.send_signal(signal.SIGTERM)
    ended = server.wait(60)
    time.sleep(1)
    found: dict[str, object] = {
        "seconds": given.seconds, "clients": given.clients, "seed": given.seed, "requests": sum(fates.values()),
        "fates": dict(fates), "troubles": dict(troubles), "afterwards": calm, "events": dict(seen), "ended": ended,
        "disk": "a tmpfs that runs full" if full else "not played: none could be mounted",
        "before": before, "after": after, "meanwhile": watched.looks, "left": left_behind(place),
        "traces": (place / "stderr").read_text().count("Traceback"),
    }  # fmt: skip
    return found | {"wrong": wrong(found, fates, before, after, watched.looks)}


def wrong(
    found: dict[str, object], fates: Counter[str], before: "Look", after: "Look", looks: "list[Look]"
) -> list[str]:
    """What must not be, in words."""
    quarter = len(looks) // 4
    early = [one["resident_bytes"] for one in looks[quarter : 2 * quarter]]
    late = [one["resident_bytes"] for one in looks[-quarter:]]
    checks = {
        "requests got no answer": fates["unanswered"] + fates["refused"] > 0,
        "processes were left": bool(found["left"]),
        "the server did not end well": found["ended"] != 0,
        "no answer afterwards": found["afterwards"] != "200",
        "descriptors leak": after["descriptors"] > before["descriptors"] + SLACK,
        "children were left by models that had gone": bool(after["children"]),
        "memory leaks": quarter > 0 and statistics.median(late) > GROWTH * statistics.median(early),
        "a trace in the log": found["traces"] != 0,
        "saved contexts are over their budget": max(one["contexts_bytes"] for one in [after, *looks]) > CONTEXTS_BYTES,
    }
    return [words for words, so in checks.items() if so]


def storm(
    url: str,
    server: "subprocess.Popen[str]",
    config: Path,
    given: argparse.Namespace,
    watched: "Watched",
    *,
    full: bool,
) -> tuple[Counter[str], Counter[str]]:
    """Everything at once until the time is over: what became of requests, and what trouble there was."""
    over = time.monotonic() + given.seconds
    fates: Counter[str] = Counter()
    troubles: Counter[str] = Counter()
    jobs: list[Callable[[], None]] = [
        partial(client, url, over, random.Random(given.seed + n), fates) for n in range(given.clients)
    ]
    if full:
        jobs.append(partial(fill, config.parent / "state", over, random.Random(given.seed - 2), troubles))
    jobs.append(partial(trouble, server, config, over, random.Random(given.seed - 1), troubles))
    jobs.append(partial(watched.watch, over))
    threads = [threading.Thread(target=job, daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, over + 1.5 * PATIENCE_S - time.monotonic()))
    fates["unanswered"] += sum(thread.is_alive() for thread in threads)
    return fates, troubles


class Look(TypedDict):
    """What a server holds at one moment."""

    descriptors: int
    children: list[str]
    resident_bytes: int
    contexts_bytes: int


class Watched:
    """Looks at a server now and then."""

    def __init__(self, server: "subprocess.Popen[str]", state: Path) -> None:
        self._proc = Path(f"/proc/{server.pid}")
        self._state = state
        self.looks: list[Look] = []

    def look(self) -> Look:
        """What it holds now."""
        contexts = [path.stat().st_size for path in self._state.glob("bercail/contexts/*") if path.exists()]
        return {
            "descriptors": len(list((self._proc / "fd").iterdir())),
            "children": [words_of(child) for child in self._children()],
            "resident_bytes": int((self._proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
            "contexts_bytes": sum(contexts),
        }

    def _children(self) -> list[str]:
        return (self._proc / "task" / self._proc.name / "children").read_text().split()

    def watch(self, over: float) -> None:
        """Look twenty times until it is over."""
        pause_s = (over - time.monotonic()) / 20
        while time.monotonic() + pause_s < over:
            time.sleep(pause_s)
            self.looks.append(self.look())


def words_of(pid: str) -> str:
    """What a process runs, without the folders of programs; empty if it has gone."""
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        return " ".join(word.rpartition("/bin/")[2] for word in words).strip()
    return ""


def recover(url: str) -> str:
    """What the real engine's model answers within a minute: just killed, it may be told to pause before a new start."""
    for _ in range(12):
        fate = ask(url, "bercail-demo", {}, PATIENCE_S)
        if fate != "503":
            break
        time.sleep(5)
    return fate


def unload(url: str, watched: Watched) -> None:
    """Let go of all models; returns when their processes have gone, of which one that was stopped takes ten seconds."""
    for _ in range(30):
        with urlopen(f"{url}/unload", timeout=PATIENCE_S) as answer:
            answer.read()
        time.sleep(2)
        if not watched.look()["children"]:
            return


def fill(folder: Path, over: float, dice: random.Random, troubles: Counter[str]) -> None:
    """Let the disk run full, and free it again."""
    file = folder / "filler"
    while time.monotonic() < over:
        time.sleep(5 + dice.random() * 15)
        with suppress(OSError), file.open("wb", buffering=0) as filler:
            while filler.write(b"\0" * 65536):
                pass
        troubles["disk full"] += 1
        time.sleep(2 + dice.random() * 8)
        file.unlink(missing_ok=True)


def configuration(version: int) -> str:
    """Four servers that misbehave, in two groups, beside the model in the box."""
    me = f"{sys.executable} -m bench.scenarios.chaos --misbehave"
    models = "\n".join(
        f"  {name}:\n    cmd: {me} ${{PORT}} {version if name == 'one' else 0}\n    healthCheckTimeout: 5\n    ttl: 5"
        for name in NAMES
    )
    return (
        f"server: {{health_interval: 3, wait_limit: 60, saved_contexts: {CONTEXTS_BYTES}}}\n"
        f"groups:\n  a: {{members: [one, two], exclusive: false}}\n  b: {{members: [three, four], exclusive: false}}\n"
        f"models:\n{models}\n  bercail-demo:\n    model: {demo_path()}\n    context: 1024\n    ttl: 5\n"
    )


def client(url: str, over: float, dice: random.Random, fates: Counter[str]) -> None:
    """Ask until it is over; what became of each request is counted."""
    while time.monotonic() < over:
        model = dice.choice((*NAMES, "bercail-demo", "nobody"))
        body = {"stream": dice.random() < 0.6, "max_tokens": dice.choice((1, 20))}
        if dice.random() < 0.1:
            fate = dawdle(url, model, body, dice)
        else:
            fate = ask(url, model, body, dice.choice((PATIENCE_S, PATIENCE_S, PATIENCE_S, 0.05)))
        fates[fate] += 1
        if fate in ("429", "503"):
            time.sleep(dice.random() * 4)


def dawdle(url: str, model: str, more: Mapping[str, object], dice: random.Random) -> str:
    """A request that is sent a few bytes at a time, or left in its middle, or whose answer is read so."""
    asked = {"model": model, "messages": [{"role": "user", "content": "What is a KV cache?"}], **more}
    body = json.dumps(asked).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    how = dice.choice(("sent slowly", "left while sending", "read slowly"))
    parts, status = urlsplit(url), b""
    try:
        with socket.create_connection((parts.hostname, parts.port), PATIENCE_S) as plug:
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            data = head.encode() + body
            for at in range(0, len(data), 20):
                plug.sendall(data[at : at + 20])
                if how == "left while sending" and at > len(data) // 2:
                    return how
                time.sleep(0.05 if how == "sent slowly" else 0)
            status = plug.recv(12)
            while plug.recv(200):
                time.sleep(0.05 if how == "read slowly" else 0)
            return how if status.startswith(b"HTTP/1.1 ") else "unanswered"
    except TimeoutError:
        return "unanswered"
    except OSError:
        return "broken" if status else "refused"


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


def trouble(
    server: "subprocess.Popen[str]", config: Path, over: float, dice: random.Random, troubles: Counter[str]
) -> None:
    """Kill engines or stop them, and have the configuration read anew."""
    version = 0
    while time.monotonic() < over:
        time.sleep(dice.random() * 2)
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        if children and dice.random() < 0.5:
            hit(int(dice.choice(children)), dice, troubles)
        if dice.random() < 0.5:
            troubles["reloads"] += 1
            version += dice.random() < 0.5
            config.write_text("models: [" if dice.random() < 0.3 else configuration(version))
            for _ in range(dice.choice((1, 5))):
                server.send_signal(signal.SIGHUP)


def hit(pid: int, dice: random.Random, troubles: Counter[str]) -> None:
    """Kill an engine, or stop it."""
    with suppress(OSError):
        ours = b"bercail.engines" in Path(f"/proc/{pid}/cmdline").read_bytes()
        order = signal.SIGKILL if dice.random() < 0.8 else signal.SIGSTOP
        os.kill(pid, order)
        troubles[order.name] += 1
        if order is signal.SIGSTOP and not ours:
            threading.Timer(5 + dice.random() * 15, resume, (pid,)).start()


def resume(pid: int) -> None:
    """Let a process go on that was stopped; it may have been killed meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


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


def left_behind(place: Path) -> list[str]:
    """Processes that belong to this scene and outlived it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"HOME={place}".encode() in entry.read_bytes().split(b"\0"):
                found.append(words_of(entry.parent.name))
    return found


if __name__ == "__main__":
    sys.exit(main())
