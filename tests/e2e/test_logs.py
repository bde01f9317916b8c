"""What the server and a real engine say, shown by the command line; what users say is not in it."""

import signal
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from e2e.conftest import Done, Server

pytestmark = pytest.mark.engine


def test_lines_of_the_engine_are_shown_and_no_prompt_is_in_them(
    up: Callable[..., Server], run: Callable[..., Done], tiny: Path
) -> None:
    server = up(tiny)
    server.wait_for("ready")
    body = {"messages": [{"role": "user", "content": "the secret zebra"}], "max_tokens": 4}
    assert server.request("POST", "/v1/chat/completions", body)[0] == 200
    assert server.request("POST", "/v1/chat/completions", {**body, "max_tokens": "zebra"})[0] == 400
    port = str(urlsplit(server.url).port)
    everything = run("logs", "--port", port).out
    assert f"{tiny.stem} | " in everything
    assert "gateway  listening on" in everything
    assert "zebra" not in everything
    assert run("logs", tiny.stem, "--port", port).out
    wrong = run("logs", "nobody", "--port", port)
    assert (wrong.status, "name a model, proxy or upstream" in wrong.err) == (3, True)
    assert server.end(signal.SIGTERM) == 0
    assert run("logs", "--port", port).status == 1
