"""Embeddings of our own workers: what is asked, what is answered, and who shares a batch."""

import base64
import json
import struct
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.engines.embedding import Hear, normalized
from bercail.engines.openvino.embedder import Job, together
from engines.test_interface import call


class Toy:
    """A text is its length and its first letter; a token is a letter."""

    name = "toy 1"
    context_tokens = 8
    width = 2
    lacks = frozenset(("token ids",))

    def __init__(self) -> None:
        self.cancelled = 0
        self.silent = False
        self.wrong = ""

    def counts(self, texts: Sequence[str]) -> list[int]:
        return [len(text) for text in texts]

    def embed(self, texts: Sequence[str], counts: Sequence[int], hear: Hear) -> Callable[[], None]:
        if not self.silent:
            hear(self.wrong or [[float(len(text)), float(ord(text[0]))] for text in texts])

        def cancel() -> None:
            self.cancelled += 1

        return cancel


def asked(body: dict[str, object], toy: Toy | None = None, path: str = "/v1/embeddings") -> dict[str, Any]:
    status, answer = call(toy or Toy(), "POST", path, body)
    found: dict[str, Any] = json.loads(answer)
    assert status == 200, found
    return found


def test_a_vector_of_length_one_for_each_text_in_their_order_with_the_tokens_of_all() -> None:
    found = asked({"input": ["abc", "0000"]})
    assert (found["object"], found["model"]) == ("list", "m")
    first, second = (row["embedding"] for row in found["data"])
    assert first == pytest.approx([3 / (9 + 97**2) ** 0.5, 97 / (9 + 97**2) ** 0.5])
    assert second == pytest.approx([4 / (16 + 48**2) ** 0.5, 48 / (16 + 48**2) ** 0.5])
    assert [row["index"] for row in found["data"]] == [0, 1]
    assert found["usage"] == {"prompt_tokens": 7, "total_tokens": 7}


def test_one_text_alone_in_llama_cpps_words_as_well() -> None:
    assert asked({"content": "abc"})["data"] == asked({"input": "abc"})["data"] == asked({"input": ["abc"]})["data"]


def test_base64_holds_the_same_numbers() -> None:
    (packed,) = asked({"input": "abc", "encoding_format": "base64"})["data"]
    (plain,) = asked({"input": "abc"})["data"]
    assert packed["encoding_format"] == "base64"
    assert struct.unpack("<2f", base64.b64decode(packed["embedding"])) == pytest.approx(plain["embedding"])


def test_fewer_dimensions_are_the_first_ones_of_length_one_again() -> None:
    assert asked({"input": "abc", "dimensions": 1})["data"][0]["embedding"] == [1.0]
    assert asked({"input": "abc", "dimensions": 1, "embd_normalize": -1})["data"][0]["embedding"] == [3.0]


@pytest.mark.parametrize(
    ("way", "expected"), [(-1, [3.0, -4.0]), (0, [24570.0, -32760.0]), (1, [3 / 7, -4 / 7]), (2, [0.6, -0.8])]
)
def test_vectors_are_scaled_as_asked(way: int, expected: list[float]) -> None:
    assert normalized([3.0, -4.0], way) == pytest.approx(expected)
    assert normalized([0.0, 0.0], way) == [0.0, 0.0]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/embeddings", {}, 400, "input is missing"),
        ("/v1/embeddings", {"input": []}, 400, "input is missing"),
        ("/v1/embeddings", {"input": ""}, 400, "input is empty"),
        ("/v1/embeddings", {"input": ["a", ""]}, 400, "input 1 is empty"),
        ("/v1/embeddings", {"input": 5}, 400, "parse error"),
        ("/v1/embeddings", b"\xff", 400, "parse error"),
        ("/v1/embeddings", {"input": [1, 2]}, 400, "toy 1 embeds texts, no token ids"),
        ("/v1/embeddings", {"input": [[1], "a"]}, 400, "toy 1 embeds texts, no token ids"),
        ("/v1/embeddings", {"input": "a", "encoding_format": "int8"}, 400, "'int8' is neither float nor base64"),
        ("/v1/embeddings", {"input": "a", "dimensions": 3}, 400, "makes vectors of 2 values"),
        ("/v1/embeddings", {"input": "a", "dimensions": 0}, 400, "makes vectors of 2 values"),
        ("/v1/embeddings", {"input": "a", "embd_normalize": -2}, 400, "embd_normalize -2"),
        ("/v1/chat/completions", {"messages": []}, 501, "to embed, not to generate: ask /v1/embeddings"),
        ("/completion", {"prompt": "a"}, 501, "to embed, not to generate"),
    ],
)
def test_what_cannot_be_done_is_told(path: str, body: object, status: int, words: str) -> None:
    found, answer = call(Toy(), "POST", path, body)
    assert found == status
    assert words in json.loads(answer)["error"]["message"]


def test_a_text_that_is_too_long_is_refused_with_its_place_and_numbers() -> None:
    status, answer = call(Toy(), "POST", "/v1/embeddings", {"input": ["a" * 8, "b" * 9]})
    error = json.loads(answer)["error"]
    assert status == 400
    assert error["message"].startswith("input 1: request (9 tokens) exceeds the available context size (8 tokens)")
    assert (error["type"], error["n_prompt_tokens"], error["n_ctx"]) == ("exceed_context_size_error", 9, 8)
    _, answer = call(Toy(), "POST", "/v1/embeddings", {"input": "b" * 9})
    assert json.loads(answer)["error"]["message"].startswith("request (9 tokens)")


def test_what_goes_wrong_in_the_library_is_told() -> None:
    toy = Toy()
    toy.wrong = "no such kernel"
    status, answer = call(toy, "POST", "/v1/embeddings", {"input": "a"})
    assert status == 500
    assert json.loads(answer)["error"]["message"] == "the engine failed: no such kernel"


def test_a_client_that_leaves_ends_the_work() -> None:
    toy = Toy()
    toy.silent = True
    assert call(toy, "POST", "/v1/embeddings", {"input": "a"}, leaves=True) == (0, b"")
    assert toy.cancelled == 1


def test_what_it_lacks_is_listed() -> None:
    _, answer = call(Toy(), "GET", "/v1/models")
    assert json.loads(answer)["data"][0]["meta"] == {"n_ctx": 8, "lacks": ["token ids"]}


def a_job(*counts: int) -> Job:
    def deaf(vectors: object) -> None:
        raise AssertionError(vectors)

    return Job(["x"] * len(counts), counts, deaf, left=sorted(range(len(counts)), key=lambda place: counts[place]))


def test_those_who_wait_take_turns_in_a_batch() -> None:
    long, short = a_job(4, 4, 4, 4), a_job(3)
    batch = together([long, short], 12)
    assert [(job is long, place) for job, place in batch] == [(True, 3), (False, 0), (True, 2)]
    assert long.left == [0, 1]


def test_a_text_longer_than_a_batch_goes_alone() -> None:
    assert len(together([a_job(50, 2)], 10)) == 1
    assert together([], 10) == []


@given(st.lists(st.lists(st.integers(1, 40), max_size=6), max_size=4), st.integers(1, 100))
def test_every_text_comes_once_and_no_batch_is_larger_than_allowed(lengths: list[list[int]], most: int) -> None:
    jobs = [a_job(*counts) for counts in lengths]
    taken: list[tuple[int, int]] = []
    while batch := together(jobs, most):
        longest = max(job.counts[place] for job, place in batch)
        assert len(batch) == 1 or longest * len(batch) <= most
        taken += [(jobs.index(job), place) for job, place in batch]
    assert sorted(taken) == [(number, place) for number, counts in enumerate(lengths) for place in range(len(counts))]
