import json
from dataclasses import replace

from bercail.core.access import Key, KeyWish, Limits, Scope, mint
from bercail.core.activity import Grouping, Total
from bercail.core.key_report import keys_document, keys_section, usage_document, usage_section
from bercail.core.overflow import Overflow

NOW_S = 1_800_000_000.0


def a_key(number: int, wish: KeyWish, revoked_s: float | None = None) -> Key:
    return replace(mint(wish, bytes([number]) * 36, NOW_S)[0], revoked_s=revoked_s)


KEYS = (
    a_key(1, KeyWish(name="old"), NOW_S),
    a_key(2, KeyWish(name="over", expires_s=NOW_S)),
    a_key(3, KeyWish(name="plain")),
    a_key(4, KeyWish(
        name="full", overflow=Overflow.TRIM_OLDEST, capture=False, scopes=(Scope.ADMIN,),
        models=("a*", "b"), expires_s=NOW_S + 60,
        limits=Limits(tokens_per_minute=1000, tokens_per_day=20_000, concurrency=2),
    )),
)  # fmt: skip
TOTALS = (
    Total(
        name="tiny", requests=1200, failed=3, prompt_tokens=1000, cached_tokens=500, generated_tokens=200,
        trimmed_tokens=4321, loads=2, queue_s=0.25, load_s=1.5, answer_s=0.125, ttft_s=0.5, decode_tokens_per_s=20.0,
    ),
    Total(
        name="", requests=1, failed=1, prompt_tokens=0, cached_tokens=0, generated_tokens=0, ttft_s=None,
        decode_tokens_per_s=None,
    ),
)  # fmt: skip


def test_keys_in_force_come_first_with_what_they_may() -> None:
    rows = keys_section(KEYS, NOW_S).rows
    assert [row[1] for row in rows] == ["plain", "full", "old", "over"]
    assert [row[-1].partition(" 2")[0] for row in rows] == ["in force", "in force until", "revoked", "expired"]
    assert rows[0][2:5] == ("inference, models", "all", "none")
    assert rows[0][5:7] == ("as the model", "may be kept")
    assert rows[1][5:7] == ("trim-oldest", "never kept")
    assert rows[1][2:5] == ("admin", "a*, b", "1,000 tokens/min, 20,000 tokens/day, 2 at once")


def test_the_document_of_keys_tells_no_hash_and_a_key_only_when_it_is_new() -> None:
    document = keys_document(KEYS, NOW_S)
    assert document["schema"] == "bercail.keys/1"
    text = json.dumps(document)
    assert not [key for key in KEYS if key.hash in text]
    assert "token" not in document
    assert keys_document(KEYS[:1], NOW_S, "bk-1")["token"] == "bk-1"
    [row] = json.loads(json.dumps(keys_document(KEYS[3:], NOW_S)))["keys"]
    assert (row["in_force"], row["scopes"], row["models"], row["concurrency"]) == (True, ["admin"], ["a*", "b"], 2)


def test_sums_are_told_with_what_is_unknown() -> None:
    section = usage_section(Grouping.MODEL, 30, TOTALS)
    assert section.title == "Requests of the last 30 days"
    assert (section.header[0], section.header[6]) == ("model", "trimmed")
    assert section.rows[0][:7] == ("tiny", "1,200", "3", "1,000", "500", "200", "4,321")
    assert section.rows[1][0] == "(none)"
    assert section.rows[1][-4:] == ("?", "none", "?", "?")
    assert usage_section(Grouping.DAY, 1, ()).title == "Requests of the last day"


def test_waiting_in_line_and_for_loads_is_told_apart_from_the_wait_for_the_first_token() -> None:
    section = usage_section(Grouping.MODEL, 30, TOTALS)
    assert section.header[7:] == ("in line", "loads", "then first token", "decode")
    assert section.rows[0][7:] == ("250 ms", "2 x 1.5 s", "125 ms", "20.0 tokens/s")


def test_the_document_of_sums_names_its_question() -> None:
    document = json.loads(json.dumps(usage_document(Grouping.KEY, 7, TOTALS)))
    assert (document["schema"], document["by"], document["days"]) == ("bercail.usage/1", "key", 7)
    assert document["totals"][0]["generated_tokens"] == 200
    assert document["totals"][1]["ttft_s"] is None
