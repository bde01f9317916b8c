"""A server under everything that can go wrong at once, for so long; nothing may be lost and nothing may be left.

Served are the model in the box on the real engine and four commands whose server misbehaves by dice: it starts late or
hangs in its start, hangs in its health check, ends while it starts, sends garbage, hangs or dies in the middle of a
stream. Clients ask without pause; some leave early, some in the middle of their request, some send or read a few bytes
at a time. Engines are killed, or stopped where they stand: the real one for good, commands for a while, for nobody can
know of a command that it should have answered by now. The disk with the server's state runs full and is freed
again (where a file system may be mounted); the configuration is read anew again and again, changed, unchanged or
broken. The real engine's model is unloaded by hand now and then, so that contexts are saved and brought back. Counted
is what became of every request; then, with all models unloaded, what is left is looked for.

    python -m bench.scenarios.chaos [--seconds 60] [--clients 20] [--seed 1] [--json FILE] [--news FILE]
"""

import argparse
import http.client
import json
import os
import random
import re
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
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

from bench.watched import Look, Watched, left_behind, strays
from bercail.demo import demo_path
from tools.figures import publish

PATIENCE_S = 240.0
"""Longer than anything that may rightly last: 60 s in line, starts that hang, two minutes until an engine that is at
work and does not answer is given up."""
CONTEXTS_BYTES = 4 * 1024 * 1024
"""Of it, for contexts of models that left memory: two of a long question, and the engine has four slots."""
CONTEXT_BYTES = 3.2 * 1024 * 1024
"""A whole one: so much the budget may be exceeded by while another is written."""
STATE_BYTES = 12 * 1024 * 1024
"""Disk for what the server keeps."""
SLACK = 4
"""Descriptors that a server which has worked may hold more than a fresh one: its database, its log."""
GROWTH = 1.25
"""How much more memory the last quarter may take than the second."""
QUESTION = "What is a KV cache?"
LONG = f"{QUESTION} " * 50
"""Worth keeping: more than 256 tokens."""
NAMES = ("one", "two", "three", "four")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="default %(default)s")
    parser.add_argument("--clients", type=int, default=20, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="of all dice but those of the servers; default %(default)s")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--news", type=Path, help="file for all that the server tells, with the time")
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
    (place / "tmp").mkdir()
    environment = {
        **os.environ, "HOME": str(place), "XDG_CACHE_HOME": str(place / "cache"),
        "XDG_STATE_HOME": str(place / "state"), "TMPDIR": str(place / "tmp"),
    }  # fmt: skip
    command = [sys.executable, "-m", "bercail", "serve", "--config", str(config), "--json-log", "--port", "0"]
    log = (place / "stderr").open("w")
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    try:
        return played(place, given, server, full=full)
    finally:
        end(server)


def end(server: "subprocess.Popen[str]") -> None:
    """Leave no server running, whatever became of the scene; its engines end with it. Nothing if it has ended."""
    if server.poll() is None:
        server.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        server.wait(60)
    if server.poll() is None:
        server.kill()
        server.wait()


def played(place: Path, given: argparse.Namespace, server: "subprocess.Popen[str]", *, full: bool) -> dict[str, object]:
    """The scene with a server that runs, up to its end."""
    assert server.stdout is not None
    config, news = place / "bercail.yaml", map(json.loads, server.stdout)
    url = next(item["url"] for item in news if item["event"] == "listening")
    seen: Counter[str] = Counter()
    threading.Thread(target=listen, args=(news, seen, given.news), daemon=True).start()
    watched = Watched(server, place / "state")
    before = watched.look()
    told = Told()
    troubles = storm(url, server, config, given, watched, told, full=full)
    calm = recover(url)
    unload(url, watched)
    after = watched.look()
    server.send_signal(signal.SIGTERM)
    ended = server.wait(60)
    time.sleep(1)
    found: dict[str, object] = {
        "seconds": given.seconds, "clients": given.clients, "seed": given.seed, "requests": sum(told.fates.values()),
        "fates": dict(told.fates), "reasons": dict(told.reasons.most_common(40)), "troubles": dict(troubles),
        "afterwards": calm, "events": dict(seen), "ended": ended,
        "contexts": {"kept": seen["context_kept"], "restored": seen["context_restored"]},
        "disk": "a tmpfs that runs full" if full else "not played: none could be mounted",
        "before": before, "after": after, "meanwhile": watched.looks, "left": left_behind(place),
        "strays": strays(place),
        "traces": (place / "stderr").read_text().count("Traceback"),
    }  # fmt: skip
    return found | {"wrong": wrong(found, told.fates, before, after, watched.looks)}


def wrong(found: dict[str, object], fates: Counter[str], before: Look, after: Look, looks: list[Look]) -> list[str]:
    """What must not be, in words."""
    quarter = len(looks) // 4
    early = [one["resident_bytes"] for one in looks[quarter : 2 * quarter]]
    late = [one["resident_bytes"] for one in looks[-quarter:]]
    checks = {
        "requests got no answer": fates["unanswered"] + fates["refused"] > 0,
        "processes were left": bool(found["left"]),
        "the server did not end well": found["ended"] != 0,
        "no answer afterwards": "200" not in str(found["afterwards"]),
        "descriptors leak": after["descriptors"] > before["descriptors"] + SLACK,
        "children were left by models that had gone": bool(after["children"]),
        "memory leaks": quarter > 0 and statistics.median(late) > GROWTH * statistics.median(early),
        "a trace in the log": found["traces"] != 0,
        "saved contexts are over their budget": after["contexts_bytes"] > CONTEXTS_BYTES
        or max(one["contexts_bytes"] for one in [after, *looks]) > CONTEXTS_BYTES + CONTEXT_BYTES,
        "files were left that should not be": bool(found["strays"]),
    }
    return [words for words, so in checks.items() if so]


def storm(
    url: str,
    server: "subprocess.Popen[str]",
    config: Path,
    given: argparse.Namespace,
    watched: Watched,
    told: "Told",
    *,
    full: bool,
) -> Counter[str]:
    """Everything at once until the time is over: what trouble there was."""
    over = time.monotonic() + given.seconds
    troubles: Counter[str] = Counter()
    jobs: list[Callable[[], None]] = [
        partial(client, url, over, random.Random(given.seed + n), told) for n in range(given.clients)
    ]
    if full:
        jobs.append(partial(fill, config.parent / "state", over, random.Random(given.seed - 2), troubles))
    jobs.append(partial(trouble, server, config, over, random.Random(given.seed - 1), troubles))
    jobs.append(partial(unload_now_and_then, url, over, random.Random(given.seed - 3), troubles))
    jobs.append(partial(watched.watch, over))
    threads = [threading.Thread(target=job, daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, over + 1.5 * PATIENCE_S - time.monotonic()))
    told.fates["unanswered"] += sum(thread.is_alive() for thread in threads)
    return troubles


def listen(news: Iterator[dict[str, object]], seen: Counter[str], path: Path | None) -> None:
    """Count what the server tells, and write it down where that is asked for."""
    with (path or Path(os.devnull)).open("w", encoding="utf-8") as file:
        for item in news:
            seen[str(item["event"])] += 1
            file.write(json.dumps({"at_s": round(time.monotonic(), 2), **item}) + "\n")


def recover(url: str) -> list[str]:
    """What the real engine's model answers, asked again as it says within two minutes, until it has answered."""
    answers, begun = [], time.monotonic()
    while time.monotonic() - begun < 120:
        fate, words, after_s = ask(url, "bercail-demo", asking(), PATIENCE_S)
        answers.append(f"{fate} after {time.monotonic() - begun:.0f} s: {words}; again in {after_s or 'no time'}")
        if fate != "503" or after_s is None:
            break
        time.sleep(after_s)
    return answers


def unload(url: str, watched: Watched) -> None:
    """Let go of all models; returns when their processes have gone, of which one that was stopped takes ten seconds."""
    for _ in range(30):
        with urlopen(f"{url}/unload", timeout=PATIENCE_S) as answer:
            answer.read()
        time.sleep(2)
        if not watched.look()["children"]:
            return


def unload_now_and_then(url: str, over: float, dice: random.Random, troubles: Counter[str]) -> None:
    """Let the real engine's model leave memory, which saves its contexts."""
    while time.monotonic() < over:
        time.sleep(5 + dice.random() * 15)
        with suppress(OSError), urlopen(f"{url}/api/models/unload/bercail-demo", b"{}", timeout=PATIENCE_S) as answer:
            answer.read()
            troubles["unloads"] += 1


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
    me = f"{sys.executable} -m bench.wild"
    models = "\n".join(
        f"  {name}:\n    cmd: {me} ${{PORT}} {version if name == 'one' else 0}\n    healthCheckTimeout: 5\n    ttl: 5"
        for name in NAMES
    )
    return (
        f"server: {{health_interval: 3, wait_limit: 60, saved_contexts: {CONTEXTS_BYTES}}}\n"
        f"groups:\n  a: {{members: [one, two], exclusive: false}}\n  b: {{members: [three, four], exclusive: false}}\n"
        f"models:\n{models}\n  bercail-demo:\n    model: {demo_path()}\n    context: 1024\n    ttl: 5\n"
    )


class Told:
    """What became of requests, and why where they failed."""

    def __init__(self) -> None:
        self.fates: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()

    def add(self, fate: str, words: str = "") -> None:
        """One more."""
        self.fates[fate] += 1
        if words:
            self.reasons[f"{fate}: {re.sub('[0-9]+', 'N', words)[:120]}"] += 1


def asking(**more: object) -> dict[str, object]:
    """A question that is answered the same every time."""
    return {"messages": [{"role": "user", "content": QUESTION}], "temperature": 0, **more}


def client(url: str, over: float, dice: random.Random, told: Told) -> None:
    """Ask until it is over; what became of each request is counted."""
    while time.monotonic() < over:
        model = dice.choice((*NAMES, "bercail-demo", "nobody"))
        body = asking(stream=dice.random() < 0.6, max_tokens=dice.choice((1, 20)))
        if dice.random() < 0.2:
            body["messages"] = [{"role": "user", "content": LONG}]
        if dice.random() < 0.1:
            fate = dawdle(url, model, body, dice)
            told.add(fate)
        else:
            fate, words, _ = ask(url, model, body, dice.choice((PATIENCE_S, PATIENCE_S, PATIENCE_S, 0.05)))
            told.add(fate, words)
        if fate in ("429", "503"):
            time.sleep(dice.random() * 4)


def dawdle(url: str, model: str, asked: Mapping[str, object], dice: random.Random) -> str:
    """A request that is sent a few bytes at a time, or left in its middle, or whose answer is read so."""
    body = json.dumps({"model": model, **asked}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    head += f"content-length: {len(body)}\r\n\r\n"
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


def ask(url: str, model: str, asked: Mapping[str, object], patience_s: float) -> tuple[str, str, int | None]:
    """What became of one request, what it was told if it failed, and after how many seconds it may come again.

    That is its status, ``broken`` in the middle, ``left`` by the client, or ``unanswered``.
    """
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=patience_s)
    status = 0
    try:
        body = json.dumps({"model": model, **asked})
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        status = response.status
        text = response.read()
        if status != 200:
            after = response.headers["retry-after"]
            return str(status), json.loads(text)["error"]["message"], None if after is None else int(after)
        whole = b"[DONE]" in text or text.rstrip().endswith(b"}")
        return ("200", "", None) if whole else ("broken", text[-200:].decode(errors="replace"), None)
    except TimeoutError:
        return ("unanswered", "", None) if patience_s == PATIENCE_S else ("left", "", None)
    except (http.client.HTTPException, OSError) as error:
        return ("broken", repr(error), None) if status else ("refused", repr(error), None)
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
    """Kill an engine, or stop it; the real one more rarely, for it needs a while to fill a context."""
    with suppress(OSError):
        ours = b"bercail.engines.llama_cpp" in Path(f"/proc/{pid}/cmdline").read_bytes()
        if ours and dice.random() < 0.7:
            return
        order = signal.SIGKILL if dice.random() < 0.8 else signal.SIGSTOP
        os.kill(pid, order)
        troubles[order.name] += 1
        if order is signal.SIGSTOP and not ours:
            threading.Timer(5 + dice.random() * 15, resume, (pid,)).start()


def resume(pid: int) -> None:
    """Let a process go on that was stopped; it may have been killed meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


if __name__ == "__main__":
    sys.exit(main())
