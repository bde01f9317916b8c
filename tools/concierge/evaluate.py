"""Puts the held-out questions to a server: `python -m tools.concierge.evaluate MODEL.gguf --json OUT.json`.

Starts `bercail up` on the model, asks everything once at temperature 0, and says how much came right; how much of the
questions' wording the training text has seen is told beside it, for a high rate on copied questions would mean nothing.
"""

import argparse
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tools.concierge.dialogue import TOOLS, read_corpus
from tools.concierge.judge import HELD_OUT, Answer, Judged, judge, rates, read_questions
from tools.concierge.overlap import overlap
from tools.figures import publish

PATIENCE_S = 60.0


class Served:
    """A model behind an OpenAI-compatible server, asked at temperature 0."""

    def __init__(self, url: str, model: str = "") -> None:
        self.host = urlsplit(url).netloc
        self.model = model

    def __call__(self, question: str, *, tools: bool) -> Answer:
        """What it answers to `question` alone.

        A call whose arguments are no JSON object is named `malformed`.

        Raises:
            RuntimeError: the server refused.
        """
        body: dict[str, object] = {
            "model": self.model,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": 128,
        }
        if tools:
            body["tools"] = [_schema(name, told[0]) for name, told in TOOLS.items()]
        message = self._post(body)["choices"][0]["message"]
        calls = [call["function"] for call in message.get("tool_calls") or ()]
        names = tuple(call["name"] if _is_object(call["arguments"]) else "malformed" for call in calls)
        return Answer(text=message.get("content") or "", calls=names)

    def _post(self, body: Mapping[str, object]) -> Any:
        connection = http.client.HTTPConnection(self.host, timeout=PATIENCE_S)
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        connection.close()
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {text.decode(errors='replace')}")
        return json.loads(text)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _schema(name: str, description: str) -> dict[str, object]:
    parameters = {"type": "object", "properties": {}}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


@contextmanager
def serving(model: Path) -> Iterator[str]:
    """`bercail up` on `model` at a free port, until the block ends; its URL."""
    argv = [sys.executable, "-m", "bercail", "up", "--json-log", "--port", "0", str(model)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            told = (json.loads(line) for line in process.stdout or ())
            url = next((news["url"] for news in told if news["event"] == "listening"), None)
            if url is None:
                raise RuntimeError(f"the server on {model} ended before it listened")
            yield url
        finally:
            process.terminate()


def report(judged: Sequence[Judged]) -> dict[str, object]:
    """The rates, and every question that went wrong with what was said."""
    wrong = [
        {"id": one.question.id, "ask": one.question.ask, "answer": one.answer.text, "calls": one.answer.calls}
        for one in judged
        if not one.right
    ]
    told = {kind: {"right": right, "asked": asked} for kind, (right, asked) in rates(judged).items()}
    return {"rates": told, "wrong": wrong}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="GGUF file to serve")
    parser.add_argument("--questions", type=Path, default=HELD_OUT, help="YAML of questions; default the held-out ones")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args(argv)
    questions = read_questions(given.questions)
    with serving(given.model) as url:
        found = report(judge(questions, Served(url)))
    found["overlap"] = overlap(questions, read_corpus(Path(__file__).parent))
    publish(found, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
