import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core import news
from bercail.core.errors import EngineError, NotFoundError, ReadError, UsageError
from bercail.core.launch import Address
from bercail.core.measure import Turn
from bercail.core.model import Findings
from bercail.core.options import ServerOptions, Settings
from bercail.flows import Answer, Piece, Seat, ask, take_seat
from bercail.flows.servers import Sought
from fakes.house import ClosingUpstream, Fakes, run, settle
from fakes.models import a_found
from fakes.upstream import Scripted

SEAT = Seat(address=Address(port=1), model_id="a", context_tokens=4096, running=True)
HELLO = [{"role": "user", "content": "Hello"}]


def event(delta: dict[str, object], reason: str | None = None, **rest: object) -> bytes:
    body = {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **rest}
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


TIMINGS = {
    "cache_n": 10, "prompt_n": 90, "prompt_per_second": 500.5, "predicted_n": 3, "predicted_per_second": 40.25,
}  # fmt: skip
STREAM = (
    b": keep-alive\n\n"
    + event({"role": "assistant", "content": None})
    + event({"reasoning_content": "hm, é"})
    + event({"content": "Hi"})
    + event({"content": " thère"})
    + event({}, "stop", timings=TIMINGS)
    + b'data: {"choices":[],"usage":{"total_tokens":103}}\r\n\r\n'
    + b"data: [DONE]\n\n"
)
ANSWER = [Piece(text="hm, é", thought=True), Piece(text="Hi"), Piece(text=" thère")]
FIGURES = Turn(
    ttft_s=0.0, prompt_tokens=100, cached_tokens=10, prefill_tokens_per_s=500.5, decode_tokens=3,
    decode_tokens_per_s=40.25, context_tokens=4096, finish_reason="stop",
)  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Talk:
    """What came of one question."""

    pieces: list[Answer] = field(default_factory=list)
    error: EngineError | None = None


def talk(fakes: Fakes, *answers: Scripted) -> Talk:
    fakes.upstream = ClosingUpstream(*answers)

    async def main() -> Talk:
        heard = Talk()
        try:
            async for piece in ask(fakes.house(), SEAT, HELLO):
                heard.pieces.append(piece)
        except EngineError as error:
            heard.error = error
        return heard

    return run(main)


def test_an_answer_comes_piece_by_piece_and_its_figures_at_the_end() -> None:
    fakes, answer = Fakes(), Scripted(pieces=[STREAM])
    assert talk(fakes, answer).pieces == [*ANSWER, FIGURES]
    (asked,) = fakes.upstream.asked
    assert (asked.address, asked.method, asked.target) == (SEAT.address, "POST", "/v1/chat/completions")
    assert json.loads(asked.body) == {"model": "a", "messages": HELLO, "stream": True}
    assert answer.ended


@given(st.sets(st.integers(1, len(STREAM) - 1)))
def test_it_does_not_matter_where_the_stream_is_cut_into_pieces(cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in pairwise(edges)]
    assert talk(Fakes(), Scripted(pieces=pieces)).pieces == [*ANSWER, FIGURES]


def test_a_last_event_without_a_line_end_counts() -> None:
    assert talk(Fakes(), Scripted(pieces=[event({"content": "Hi"}).rstrip()])).pieces[0] == Piece(text="Hi")


def test_time_to_first_token_is_that_of_the_first_piece() -> None:
    fakes = Fakes()
    go = asyncio.Event()

    async def main() -> Turn:
        fakes.upstream = ClosingUpstream(Scripted(pieces=[event({"role": "assistant"}), go, STREAM]))
        heard: list[Answer] = []

        async def listen() -> None:
            async for piece in ask(fakes.house(), SEAT, HELLO):
                heard.append(piece)
                fakes.clock.now_s += 5

        task = asyncio.create_task(listen())
        await settle()
        fakes.clock.now_s += 1.5
        go.set()
        await task
        assert isinstance(heard[-1], Turn)
        return heard[-1]

    assert run(main).ttft_s == 1.5


def test_an_answer_without_text_or_figures_leaves_them_unknown() -> None:
    pieces = talk(Fakes(), Scripted(pieces=[event({}, "length")])).pieces
    assert pieces == [Turn(context_tokens=4096, finish_reason="length")]


@pytest.mark.parametrize(
    ("body", "message", "code", "hint"),
    [
        (
            b'{"error":{"message":"too long","code":"context_length_exceeded","type":"x"}}', "too long",
            "context_length_exceeded", "start afresh with /clear",
        ),
        (b'{"error":{"message":"no","type":"server_error"}}', "no", "server_error", ""),
        (b'{"error":"words alone"}', '{"error":"words alone"}', "engine", ""),
        (b"<html>busy</html>", "<html>busy</html>", "engine", ""),
        (b"", "an empty answer", "engine", ""),
    ],
)  # fmt: skip
def test_a_refusal_carries_the_servers_words(body: bytes, message: str, code: str, hint: str) -> None:
    heard = talk(Fakes(), Scripted(status=400, pieces=[body]))
    assert heard.error is not None
    assert (heard.error.message, heard.error.code, heard.error.hint) == (message, code, hint)
    assert heard.pieces == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'data: {"error":{"message":"the engine died","code":"engine_died"}}\n', "the engine died"),
        (b"data: {broken\n", "not JSON: b'{broken'"), (b"data: [1]\n", "[1]"),
    ],
)  # fmt: skip
def test_an_error_within_a_stream_ends_it_after_what_came_before(line: bytes, words: str) -> None:
    answer = Scripted(pieces=[event({"content": "Hi"}), line, event({"content": "never"})])
    heard = talk(Fakes(), answer)
    assert heard.pieces == [Piece(text="Hi")]
    assert heard.error is not None
    assert words in heard.error.message
    assert answer.aborted


def test_a_stream_that_breaks_is_an_error_and_is_let_go() -> None:
    answer = Scripted(pieces=[event({"content": "Hi"}), EngineError("connection lost")])
    heard = talk(Fakes(), answer)
    assert heard.error is not None
    assert heard.error.message == "connection lost"
    assert answer.aborted


def test_one_who_stops_listening_aborts_the_answer() -> None:
    answer = Scripted(pieces=[STREAM, STREAM])

    async def main() -> None:
        fakes = Fakes(upstream=ClosingUpstream(answer))
        listening = ask(fakes.house(), SEAT, HELLO)
        assert await anext(listening) == ANSWER[0]
        await listening.aclose()

    run(main)
    assert answer.aborted


def listing(*rows: dict[str, object]) -> Scripted:
    return Scripted(pieces=[json.dumps({"object": "list", "data": rows}).encode()])


def refusing(status: int, kind: str) -> Scripted:
    words = {"message": "this server needs an API key", "type": kind}
    return Scripted(status=status, pieces=[json.dumps({"error": words}).encode()])


@pytest.mark.parametrize(("status", "kind"), [(401, "authentication_error"), (403, "permission_error")])
def test_a_server_that_wants_another_key_is_told_of_and_no_engine_is_started(status: int, kind: str) -> None:
    fakes = Fakes(upstream=ClosingUpstream(refusing(status, kind)))
    fakes.add("a")

    async def main() -> None:
        async with take_seat(fakes.house(), "a", lambda _: None):
            pass

    with pytest.raises(UsageError, match="needs an API key") as refused:
        run(main)
    assert "BERCAIL_KEY" in refused.value.hint
    assert not fakes.engine.starts


def test_what_refuses_in_other_words_is_none_of_our_servers() -> None:
    found, _, _ = seat(refusing(401, "login"), "a")
    assert not found.running


def test_the_key_is_shown_to_the_server() -> None:
    fakes = Fakes(upstream=ClosingUpstream(listing(A), Scripted(pieces=[STREAM])))

    async def main() -> None:
        async with take_seat(fakes.house(), "a", lambda _: None, "bk-1") as seat:
            assert [piece async for piece in ask(fakes.house(), seat, HELLO)]

    run(main)
    assert [(b"authorization", b"Bearer bk-1") in asked.headers for asked in fakes.upstream.asked] == [True, True]


def nobody() -> Scripted:
    return Scripted(before_headers=EngineError("nobody listens"))


def seat(answer: Scripted, name: str, models: Sequence[str] = ("a",)) -> tuple[Seat, Fakes, list[news.News]]:
    fakes = Fakes(settings=Settings(server=ServerOptions(port=9999)), upstream=ClosingUpstream(answer))
    fakes.add(*models)
    told: list[news.News] = []

    async def main() -> Seat:
        async with take_seat(fakes.house(), name, told.append) as found:
            assert found.running or fakes.engine.alive
            return found

    return run(main), fakes, told


A, B = {"id": "a", "context_length": 8192}, {"id": "b", "loaded": True, "context_length": 2048}


@pytest.mark.parametrize(
    ("rows", "name", "model_id", "context"),
    [
        ([A, B], "a", "a", 8192), ([A, B], "", "b", 2048), ([A], "", "a", 8192),
        ([{"id": "a", "context_length": None}], "a", "a", None), ([{"id": "a"}], "a", "a", None),
    ],
)  # fmt: skip
def test_a_running_server_that_has_the_model_is_used(
    rows: list[dict[str, object]], name: str, model_id: str, context: int | None
) -> None:
    found, fakes, _ = seat(listing(*rows), name)
    assert found == Seat(
        address=Address(host="127.0.0.1", port=9999), model_id=model_id, context_tokens=context, running=True
    )
    assert fakes.engine.starts == []
    assert fakes.upstream.asked[0].target == "/v1/models"
    assert fakes.upstream.closed


@pytest.mark.parametrize(
    ("name", "target", "told"),
    [
        ("claude x", "/v1/models/claude%20x", [news.Warned(text="claude x means a at the running server")]),
        ("a", "/v1/models/a", []),
    ],
)
def test_a_name_that_the_server_does_not_list_but_answers_to_is_used_there(
    name: str, target: str, told: list[news.News]
) -> None:
    answers = listing(B), Scripted(pieces=[json.dumps(A).encode()])
    fakes = Fakes(upstream=ClosingUpstream(*answers))
    fakes.add("a", "claude x")
    heard: list[news.News] = []

    async def main() -> Seat:
        async with take_seat(fakes.house(), name, heard.append, "bk-1") as found:
            return found

    found = run(main)
    assert (found.model_id, found.context_tokens, found.running) == (name, 8192, True)
    assert [one.target for one in fakes.upstream.asked] == ["/v1/models", target]
    assert all((b"authorization", b"Bearer bk-1") in one.headers for one in fakes.upstream.asked)
    assert (fakes.engine.starts, heard) == ([], told)


@pytest.mark.parametrize(
    "second",
    [
        nobody(), Scripted(status=404, pieces=[json.dumps(A).encode()]), Scripted(pieces=[b"[]"]),
        Scripted(pieces=[b"<html>"]),
    ],
)  # fmt: skip
def test_a_name_that_means_nothing_to_the_server_is_looked_for_here(second: Scripted) -> None:
    fakes = Fakes(upstream=ClosingUpstream(listing(B), second))
    fakes.add("a")

    async def main() -> Seat:
        async with take_seat(fakes.house(), "a", lambda _: None) as found:
            return found

    assert not run(main).running


@pytest.mark.parametrize(
    "answer",
    [
        nobody(), listing(B), Scripted(pieces=[b"<html>"]), Scripted(pieces=[b"{}"]), Scripted(pieces=[b"[]"]),
        Scripted(pieces=[b'{"data": null}']), Scripted(pieces=[b'{"data": [7]}']), Scripted(status=404, pieces=[b""]),
    ],
)  # fmt: skip
def test_otherwise_an_engine_is_started_and_ended_again(answer: Scripted) -> None:
    found, fakes, told = seat(answer, "a")
    assert (found.model_id, found.context_tokens, found.running) == ("a", 8192, False)
    assert found.address == fakes.engine.processes[0].address
    assert not fakes.engine.alive
    assert fakes.upstream.closed
    assert [type(item) for item in told][-2:] == [news.Ready, news.Unloaded]


def test_a_path_is_served_by_an_engine_of_its_own() -> None:
    fakes = Fakes(upstream=ClosingUpstream(listing(B)))
    fakes.add("a")
    fakes.reader.by_path["/m/a.gguf"] = Findings(models=(a_found("a"),), looked=())

    async def main() -> None:
        async with take_seat(fakes.house(), "/m/a.gguf", lambda item: None) as found:
            assert not found.running

    run(main)


def test_no_such_model_is_an_error_and_nothing_stays_open() -> None:
    fakes = Fakes(upstream=ClosingUpstream(nobody()))

    async def main() -> None:
        with pytest.raises(ReadError):
            async with take_seat(fakes.house(), "./x", lambda item: None):
                pass

    run(main)
    assert fakes.upstream.closed


def test_an_engine_that_fails_is_told_and_everything_is_shut() -> None:
    fakes = Fakes(upstream=ClosingUpstream(nobody()))
    fakes.add("a")
    fakes.engine.outcomes = [EngineError("broken")]

    async def main() -> None:
        with pytest.raises(EngineError, match="broken"):
            async with take_seat(fakes.house(), "a", lambda item: None):
                pass

    run(main)
    assert fakes.upstream.closed


def test_without_a_name_and_without_a_server_it_says_how_to_get_either() -> None:
    fakes = Fakes(upstream=ClosingUpstream(nobody()))
    with pytest.raises(NotFoundError, match="no server with a model") as refused:
        _sit(fakes, "")
    assert "bercail chat MODEL" in refused.value.hint
    assert fakes.upstream.closed


def test_a_name_that_is_nowhere_tells_what_the_running_server_has_and_what_is_here() -> None:
    fakes = Fakes(upstream=ClosingUpstream(listing(B)))
    fakes.add("a")
    with pytest.raises(NotFoundError, match="neither at the running server nor here") as refused:
        _sit(fakes, "nope")
    assert refused.value.hint == (
        "the server at 127.0.0.1:8123 has b; here there is a (bercail models); or name a file"
    )
    with pytest.raises(ReadError):
        _sit(Fakes(upstream=ClosingUpstream(listing(B))), "/m/nope.gguf")


def test_a_name_that_is_nearly_one_of_the_running_server_is_asked_about() -> None:
    row = {"id": "stories", "loaded": True}
    with pytest.raises(NotFoundError) as refused:
        _sit(Fakes(upstream=ClosingUpstream(listing(row))), "storis")
    assert refused.value.hint.startswith("did you mean stories? the server at 127.0.0.1:8123 has stories;")


def test_a_name_that_is_nowhere_without_a_server_tells_how_to_start_one() -> None:
    fakes = Fakes(upstream=ClosingUpstream(nobody()))
    fakes.add("a", "b")
    with pytest.raises(NotFoundError, match="no model 'nope', and no file of that name") as refused:
        _sit(fakes, "nope")
    assert refused.value.hint == (
        "there are a, b (bercail models); or name a file; "
        "no server answers at 127.0.0.1:8123; bercail up MODEL starts one, --host and --port name another"
    )


@pytest.mark.parametrize("elsewhere", [True, False])
def test_whoever_named_a_server_is_told_that_it_is_not_there(*, elsewhere: bool) -> None:
    fakes = Fakes(upstream=ClosingUpstream(nobody()))
    fakes.add("a")
    told: list[news.News] = []

    async def main() -> None:
        async with take_seat(fakes.house(), "a", told.append, sought=Sought(placed=elsewhere)) as seat:
            assert not seat.running

    run(main)
    words = "no server answers at 127.0.0.1:8123: a gets an engine of its own"
    assert (news.Warned(text=words) in told) == elsewhere


def _sit(fakes: Fakes, name: str) -> None:
    async def main() -> None:
        async with take_seat(fakes.house(), name, lambda item: None):
            pass

    run(main)
