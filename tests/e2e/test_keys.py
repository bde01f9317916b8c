"""API keys, quotas and the record of requests, with the real server and the official client."""

import json
import sqlite3
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest

from bercail.store.keys import LOOK_S
from e2e.conftest import wait_until

pytestmark = pytest.mark.engine

Up = Callable[..., Any]
Run = Callable[..., Any]
MARKER = "Zanzibar-7341"
"""A word of a prompt that must be found nowhere on the disk."""


def create(run: Run, *arguments: str) -> str:
    """A new key."""
    done = run("keys", "create", *arguments, "--json")
    assert done.status == 0, done.err
    return str(json.loads(done.out)["token"])


def client_of(server: Any, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0, timeout=240)


def chat(client: openai.OpenAI, **more: Any) -> Any:
    messages: Any = [{"role": "user", "content": f"Hello {MARKER}"}]
    return client.chat.completions.create(model="tiny", messages=messages, max_tokens=8, temperature=0, **more)


def test_a_server_with_keys_is_open_to_their_holders_alone(up: Up, run: Run, tiny: Path, tmp_path: Path) -> None:
    server = up(tiny)
    server.wait_for("ready")
    with client_of(server, "none") as nobody:
        assert chat(nobody).choices, "no key was made yet"
        good, lists = create(run, "laptop"), create(run, "board", "--scope", "models")
        wait_until(lambda: server.request("GET", "/v1/models")[0] == 401)
        with pytest.raises(openai.AuthenticationError, match="wrong"):
            chat(nobody)
        with pytest.raises(openai.AuthenticationError):
            nobody.models.list()
    assert server.request("GET", "/health") == (200, {"status": "ok"})
    with client_of(server, lists) as board:
        assert [row.id for row in board.models.list().data] == ["tiny"]
        with pytest.raises(openai.PermissionDeniedError, match="scope inference"):
            chat(board)
    with client_of(server, good) as laptop:
        usage = chat(laptop).usage
        assert usage is not None
        for _ in chat(laptop, stream=True):
            pass
        assert run("keys", "revoke", "laptop").status == 0
        time.sleep(LOOK_S)
        with pytest.raises(openai.AuthenticationError, match="revoked"):
            chat(laptop)
    assert server.end() == 0
    rows = json.loads(run("usage", "--by", "key", "--json").out)["totals"]
    [row] = [row for row in rows if row["name"].endswith(" laptop")]
    assert (row["requests"], row["failed"]) == (2, 0)
    assert row["prompt_tokens"] + row["cached_tokens"] == 2 * usage.prompt_tokens
    assert row["generated_tokens"] == 2 * usage.completion_tokens
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        data = path.read_bytes()
        assert good.encode() not in data, path
        assert lists.encode() not in data, path
        assert MARKER.encode() not in data, path


def test_a_quota_ends_with_429_and_survives_a_restart(up: Up, run: Run, tiny: Path) -> None:
    key = create(run, "small", "--tokens-per-day", "20")
    server = up(tiny)
    server.wait_for("ready")
    with client_of(server, key) as client:
        assert chat(client).usage is not None
        with pytest.raises(openai.RateLimitError) as refused:
            chat(client)
        assert refused.value.code == "tokens_per_day_exceeded"
        assert 86_400 <= int(refused.value.response.headers["retry-after"]) <= 86_400 + 1440
    assert server.end() == 0
    again = up(tiny)
    again.wait_for("ready")
    with client_of(again, key) as client, pytest.raises(openai.RateLimitError):
        chat(client)


def test_a_client_that_leaves_is_recorded_with_what_it_got(up: Up, run: Run, tiny: Path, tmp_path: Path) -> None:
    key = create(run, "hasty")
    server = up(tiny)
    server.wait_for("ready")
    with client_of(server, key) as client:
        stream = client.completions.create(
            model="tiny", prompt="Once upon a time", max_tokens=1500, stream=True, extra_body={"ignore_eos": True}
        )
        for _ in range(3):
            next(stream)
        stream.close()

    def entry() -> Any:
        with closing(sqlite3.connect(tmp_path / "state" / "bercail" / "activity.db")) as database:
            return database.execute("SELECT aborted, generated_tokens, prompt_tokens FROM activity").fetchone()

    aborted, generated, prompt = wait_until(entry)
    assert aborted == 1
    assert generated >= 3
    assert prompt > 0


def test_metrics_tell_tokens_loads_and_speeds_of_the_model(up: Up, tiny: Path) -> None:
    server = up(tiny)
    server.wait_for("ready")
    with client_of(server, "none") as client:
        chat(client)
    text = urllib.request.urlopen(server.url + "/metrics", timeout=240).read().decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert values['bercail_model_loads_total{model="tiny"}'] == "1"
    assert values['bercail_model_state{model="tiny",state="loaded"}'] == "1"
    assert int(values['bercail_model_planned_bytes{model="tiny"}']) > 0
    assert int(values['bercail_decode_tokens_total{model="tiny"}']) > 0
    assert values['bercail_time_to_first_token_seconds_count{model="tiny"}'] == "1"
    assert values['bercail_decode_tokens_per_second_count{model="tiny"}'] == "1"


def test_a_chat_in_the_terminal_shows_its_key(up: Up, run: Run, tiny: Path) -> None:
    key = create(run, "me")
    server = up(tiny)
    server.wait_for("ready")
    port = server.url.rpartition(":")[2]
    refused = run("chat", "tiny", "--port", port, text="Hello\n")
    assert refused.status == 2
    assert "BERCAIL_KEY" in refused.err
    done = run("chat", "tiny", "--port", port, text="Hello\n", BERCAIL_KEY=key)
    assert done.status == 0, done.err
    assert "the server at" in done.err


def test_the_commands_say_what_they_did_and_what_follows(run: Run) -> None:
    assert "no API key" in run("keys", "list").out
    assert "no request" in run("usage").out
    made = run("keys", "create", "laptop", "--models", "qwen*", "--tokens-per-minute", "2k", "--expires", "90d")
    assert made.status == 0
    assert made.out.startswith("bk-")
    assert len(made.out.strip().splitlines()) == 1
    assert "every request needs one" in made.err
    assert "every request" not in run("keys", "create", "other").err
    listed = run("keys", "list").out
    assert "laptop" in listed
    assert "2,048 tokens/min" in listed
    assert made.out.strip() not in listed
    again = run("keys", "create", "laptop")
    assert (again.status, "already" in again.err) == (2, True)
    assert run("keys", "revoke", "labtop").status == 1
    assert "nobody" not in run("keys", "revoke", "laptop").err
    assert "nobody can come in" in run("keys", "revoke", "other").err
    assert "already" in run("keys", "revoke", "other").out
    assert [row["in_force"] for row in json.loads(run("keys", "list", "--json").out)["keys"]] == [False, False]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scope", "root"), "there is no scope 'root'"),
        (("--expires", "soon"), "no moment"),
        (("--tokens-per-day", "many"), "not a number of tokens"),
        (("--tokens-per-day", "0"), "1 or more"),
        (("--concurrency", "0"), "x>=1"),
    ],
)
def test_a_wrong_wish_for_a_key_is_one_clear_error(run: Run, arguments: tuple[str, str], words: str) -> None:
    done = run("keys", "create", "x", *arguments)
    assert (done.status, done.out) == (2, "")
    assert words in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "more",
    [{}, {"stream": True}, {"logprobs": True}, {"n": 2}, {"n": 2, "stream": True}, {"n": 2, "logprobs": True}],
    ids=str,
)
def test_every_way_of_asking_is_charged_by_the_engines_count(
    open_server: Any, more: dict[str, Any], tmp_path: Path
) -> None:
    server, count = open_server
    before = count()
    with client_of(server, "none") as client:
        answer = chat(client, **more)
        for _ in answer if more.get("stream") else ():
            pass
    wait_until(lambda: count() != before)
    requests, prompt, generated = (now - then for now, then in zip(count(), before, strict=True))
    choices = more.get("n", 1)
    assert (requests, generated) == (1, 8 * choices)
    assert 0 < prompt < 100


@pytest.fixture
def open_server(up: Up, tiny: Path, tmp_path: Path) -> tuple[Any, Callable[[], tuple[int, int, int]]]:
    """A server and how many requests, prompt tokens (cached ones too) and generated tokens it has recorded."""
    server = up(tiny)
    server.wait_for("ready")
    query = "SELECT count(*), total(prompt_tokens) + total(cached_tokens), total(generated_tokens) FROM activity"

    def count() -> tuple[int, int, int]:
        with closing(sqlite3.connect(tmp_path / "state" / "bercail" / "activity.db")) as database:
            requests, prompt, generated = database.execute(query).fetchone()
        return int(requests), int(prompt), int(generated)

    return server, count
