"""OpenAI's responses, asked of an engine in the words of its chat."""

import json
from typing import Any

import pytest

from bercail.core.errors import EngineError
from bercail.core.model import Capability
from fakes.bench import Bench
from fakes.chats import BEGIN, CHAT, COUNTER, COUNTS, DONE, bench, chunk, words
from fakes.client import Client
from fakes.host import FakeHost, served
from fakes.loop import run
from fakes.upstream import FakeUpstream, Scripted

RESPONSES, COUNT = "/v1/responses", "/v1/responses/input_tokens"
HELLO: dict[str, Any] = {"model": "tiny", "input": "x", "instructions": "Be brief.", "max_output_tokens": 5}


WORDS = words("a", '"b\n', "ä")
ANSWER = [BEGIN, *WORDS, chunk("stop"), COUNTS, DONE]


def told(client: Client) -> list[Any]:
    """The events of a stream; each bears the name of its type, and they are numbered."""
    made = []
    for event in client.body.decode().split("\n\n")[:-1]:
        name, _, data = event.partition("\n")
        made.append(json.loads(data.removeprefix("data: ")))
        assert made[-1]["type"] == name.removeprefix("event: ")
        assert made[-1]["sequence_number"] == len(made) - 1
    return made


@pytest.mark.parametrize("path", [RESPONSES, "/responses"])
@pytest.mark.parametrize("engine", ["llama.cpp", "openvino", "onnxruntime", None])
def test_every_engine_is_asked_for_a_chat_and_its_answer_is_a_response(path: str, engine: str | None) -> None:
    one = bench(*ANSWER, engine=engine)
    client = one.post(path, HELLO | {"store": True})
    said = {"type": "output_text", "text": 'a"b\nä', "annotations": [], "logprobs": []}
    assert client.json["output"] == [
        {"id": "msg_1_0", "type": "message", "status": "completed", "role": "assistant", "content": [said]}
    ]
    known = {"id": "resp_1", "object": "response", "status": "completed", "model": "tiny", "max_output_tokens": 5}
    assert known.items() <= client.json.items()
    assert client.json["usage"]["input_tokens_details"] == {"cached_tokens": 4}
    assert client.headers["x-bercail-note"] == "not heeded: store, for no answer is kept here"
    [asked] = one.upstream.asked
    assert asked.target == CHAT
    assert json.loads(asked.body) == {
        "model": "tiny", "max_tokens": 5, "stream": True, "stream_options": {"include_usage": True},
        "return_progress": True,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "x"}],
    }  # fmt: skip
    lines = one.get("/metrics").body.decode().splitlines()
    assert 'bercail_requests_total{model="tiny",endpoint="responses",status="200"} 1' in lines
    assert 'bercail_prefill_tokens_total{model="tiny"} 5' in lines
    assert 'bercail_decode_tokens_total{model="tiny"} 3' in lines


@pytest.mark.parametrize("pieces", [ANSWER, [b"".join(ANSWER)], [bytes([one]) for one in b"".join(ANSWER)]])
@pytest.mark.parametrize("takes", [True, False])
def test_a_stream_is_told_event_by_event_whichever_way_it_goes(pieces: list[bytes], *, takes: bool) -> None:
    client = Client(bench(*pieces).app, takes=lambda _: takes)

    async def scene() -> None:
        await client.post(RESPONSES, HELLO | {"stream": True})

    run(scene)
    assert client.headers["content-type"] == "text/event-stream"
    assert client.complete
    events = told(client)
    kinds = ["output_item.added", "content_part.added", *["output_text.delta"] * 3]
    kinds += ["output_text.done", "content_part.done", "output_item.done"]
    assert [one["type"].removeprefix("response.") for one in events] == ["created", "in_progress", *kinds, "completed"]
    assert "".join(one["delta"] for one in events[4:7]) == events[7]["text"] == 'a"b\nä'
    whole = bench(*ANSWER).post(RESPONSES, HELLO).json
    assert events[-1]["response"] == whole


def test_a_response_begins_while_the_prompt_is_read_and_one_that_breaks_off_has_failed() -> None:
    one = bench(BEGIN, WORDS[0], EngineError("it died"))
    client = one.post(RESPONSES, HELLO | {"stream": True})
    events = told(client)
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    failed, error = events[-2:]
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    assert failed["response"]["error"] == {"code": "engine", "message": "tiny: it died"}
    assert (error["type"], error["message"]) == ("error", "tiny: it died")
    assert client.complete
    lines = one.get("/metrics").body.decode().splitlines()
    assert 'bercail_requests_total{model="tiny",endpoint="responses",status="502"} 1' in lines


def test_a_count_is_that_of_the_chat() -> None:
    one = bench(b'{"input_tokens":7,"object":"response.input_tokens"}', engine="openvino")
    assert one.post(COUNT, HELLO).json == {"object": "response.input_tokens", "input_tokens": 7}
    [asked] = one.upstream.asked
    assert asked.target == COUNTER
    assert json.loads(asked.body)["messages"][0] == {"role": "system", "content": "Be brief."}


def test_what_cannot_be_done_is_refused_before_a_model_is_loaded() -> None:
    one = bench(*ANSWER, capabilities=(Capability.CHAT,))
    client = one.post(RESPONSES, HELLO | {"input": [{"type": "item_reference", "id": "rs_1"}]})
    assert (client.status, client.error["type"]) == (400, "invalid_request_error")
    assert client.error["message"].startswith("input[0] refers to an item of an earlier answer")
    assert one.host.granted == 0


def test_a_server_of_someone_elses_is_asked_in_the_words_of_the_dialect_first() -> None:
    host = FakeHost(known=[served(engine="theirs", format=None, plain=True)])
    one = Bench(host, FakeUpstream(Scripted(status=404, pieces=[b"no"]), Scripted(pieces=ANSWER)))
    client = one.post(RESPONSES, HELLO)
    assert client.json["status"] == "completed"
    own, chat = one.upstream.asked
    assert (own.target, json.loads(own.body)["input"]) == (RESPONSES, "x")
    assert (chat.target, json.loads(chat.body)["messages"][-1]) == (CHAT, {"role": "user", "content": "x"})
