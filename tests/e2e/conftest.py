"""The real thing: the command line, a gateway and an engine in processes of their own, and small models."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from bercail.engines.llama_cpp.tiny import LlamaShape, write_llama

BERCAIL = (sys.executable, "-m", "bercail")
CHATML = (
    "{%- for message in messages -%}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
PATIENCE_S = 240.0
"""How long a step may take on a busy machine before a test gives up; nothing is measured by it."""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with random weights and a chat template."""
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    write_llama(path, LlamaShape(layers=2, embedding=64, feed_forward=128), template=CHATML)
    return path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which Bercail touches nothing of this user's."""
    return environment_in(tmp_path)


def environment_in(folder: Path) -> dict[str, str]:
    """The same, everything of ours below ``folder``."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("BERCAIL_", "XDG_", "HF_", "COV"))}
    return {
        **kept,
        "HOME": str(folder / "home"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "NO_COLOR": "1",
    }


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Callable[..., Done]:
    """Run a command to its end."""

    def call(*arguments: str, text: str = "", **variables: str) -> Done:
        done = subprocess.run(
            [*BERCAIL, *arguments], check=False, input=text, text=True, capture_output=True, timeout=PATIENCE_S,
            env={**environment, **variables}, cwd=tmp_path,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    return call


@dataclass
class Server:
    """A running ``bercail up``."""

    process: subprocess.Popen[str]
    news: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._threads = [
            threading.Thread(target=self._read_news, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read_news(self) -> None:
        for line in self.process.stdout or ():
            self.news.append(json.loads(line))

    def _read_errors(self) -> None:
        self.errors.extend(self.process.stderr or ())

    def wait_for(self, event: str, count: int = 1) -> dict[str, Any]:
        """The news of that kind, the ``count``-th of them."""
        found = wait_until(lambda: self._news_of(event, count) or (self.process.poll() is not None and "ended"))
        if found == "ended":
            self.ended()
            found = self._news_of(event, count)
        assert found, f"ended before {event}: {self.errors} {self.news[-3:]}"
        assert isinstance(found, dict)
        return found

    def _news_of(self, event: str, count: int) -> dict[str, Any] | None:
        matching = [item for item in self.news if item["event"] == event]
        return matching[count - 1] if len(matching) >= count else None

    @property
    def url(self) -> str:
        return str(self.wait_for("listening")["url"])

    def request(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """One request; status and JSON."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=PATIENCE_S)
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        connection.request(method, path, data, {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        connection.close()
        return response.status, json.loads(text)

    def engines(self) -> list[int]:
        """Process ids of the engine workers that this server started."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children]

    def ended(self) -> int:
        """Exit status, once it has ended and all that it said has been read."""
        status = self.process.wait(PATIENCE_S)
        for thread in self._threads:
            thread.join(PATIENCE_S)
        return status

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ask it to stop and wait; exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.ended()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        return status


def serve(environment: dict[str, str], folder: Path, *arguments: str | Path) -> Server:
    """``bercail up --json-log`` on a free port."""
    argv = [*BERCAIL, "up", "--json-log", "--port", "0", *map(str, arguments)]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return Server(subprocess.Popen(argv, text=True, env=environment, cwd=folder, **pipes))


@pytest.fixture
def up(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start ``bercail up --json-log`` on a free port."""
    servers: list[Server] = []

    def start(*arguments: str | Path, **variables: str) -> Server:
        server = serve({**environment, **variables}, tmp_path, *arguments)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.end(signal.SIGKILL)


def wait_until(found: Callable[[], Any]) -> Any:
    """What ``found`` gives once it gives anything true."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if result := found():
            return result
        time.sleep(0.02)
    raise AssertionError(f"nothing came of {found}")


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
