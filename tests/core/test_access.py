from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.access import (
    DAY_S,
    Key,
    KeyWish,
    Limits,
    Scope,
    Usage,
    declared_keys,
    digest,
    format_moment,
    mint,
    model_refusal,
    parse_expiry,
    read_scopes,
    refusal,
    required,
    shown,
    unknown,
    whose,
    whose_declared,
)
from bercail.core.chat import ApiError
from bercail.core.errors import UsageError

NOW_S = 1_800_000_000.0
"""2027-01-15 08:00 UTC."""
ROUNDING_S = 1e-6
ALL = (Scope.INFERENCE, Scope.MODELS)


def a_key(**facts: object) -> Key:
    return replace(mint(KeyWish(name="me"), bytes(36), NOW_S)[0], **facts)  # type: ignore[arg-type] # a test names what it changes


def check(
    key: Key, scope: Scope | None = Scope.INFERENCE, usage: Usage | None = None, *, now_s: float = 0.0
) -> ApiError | None:
    return refusal(key, scope, usage or Usage(), wall_s=NOW_S, now_s=now_s)


def test_a_key_is_a_prefix_an_id_and_256_bits() -> None:
    key, token = mint(KeyWish(name="me"), bytes(range(36)), NOW_S)
    assert token == "bk-00010203-BAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiM"
    assert (key.id, key.hash) == ("00010203", digest(token))
    assert len(key.hash) == 64


def test_a_token_is_whose_key_it_is_and_nobodys_if_anything_differs() -> None:
    key, token = mint(KeyWish(name="me"), bytes(range(36)), NOW_S)
    keys = {key.id: key}
    assert whose(token, keys) is key
    for wrong in (token[:-1], token + "x", token[3:], token.upper(), "bk-00010203", "bk-", "", "sk-00010203-x", "é"):
        assert whose(wrong, keys) is None
    assert whose(token, {}) is None


@given(st.text())
def test_no_text_breaks_the_search_for_its_key(text: str) -> None:
    key, _ = mint(KeyWish(name="me"), bytes(36), NOW_S)
    assert whose("bk-" + key.id + "-" + text, {key.id: key}) is None


@pytest.mark.parametrize(
    ("setting", "keys", "expected"),
    [("auto", None, False), ("auto", {}, True), ("always", None, True), ("never", {}, False), ("never", None, False)],
)
def test_a_key_is_required_once_one_was_made(setting: str, keys: dict[str, Key] | None, *, expected: bool) -> None:
    assert required(setting, keys) is expected


@pytest.mark.parametrize(
    ("token", "made", "code"),
    [
        (None, True, "missing_api_key"), ("bk-x", True, "invalid_api_key"), ("sk-x", True, "invalid_api_key"),
        (None, False, "no_keys"), ("bk-x", False, "no_keys"),
    ],
)  # fmt: skip
def test_who_is_unknown_is_told_what_to_do(token: str | None, code: str, *, made: bool) -> None:
    error = unknown(token, {"x": a_key()} if made else None)
    assert (error.status, error.code, error.kind) == (401, code, "authentication_error")
    assert token is None or token not in error.message


@pytest.mark.parametrize(
    ("facts", "scope", "expected"),
    [
        ({}, Scope.INFERENCE, None),
        ({}, Scope.MODELS, None),
        ({}, Scope.ADMIN, (403, "missing_scope")),
        ({"scopes": (Scope.MODELS,)}, None, None),
        ({"revoked_s": NOW_S - 9}, None, (401, "revoked_api_key")),
        ({"scopes": (Scope.MODELS,)}, Scope.INFERENCE, (403, "missing_scope")),
        ({"scopes": (Scope.ADMIN,)}, Scope.INFERENCE, None),
        ({"expires_s": NOW_S + 1}, Scope.INFERENCE, None),
        ({"expires_s": NOW_S}, Scope.INFERENCE, (401, "expired_api_key")),
        ({"revoked_s": NOW_S - 9}, Scope.INFERENCE, (401, "revoked_api_key")),
    ],
)
def test_scopes_and_force_decide_first(
    facts: dict[str, object], scope: Scope | None, expected: tuple[int, str] | None
) -> None:
    error = check(a_key(**facts), scope)
    assert (error and (error.status, error.code)) == expected


def test_limits_are_of_inference_alone() -> None:
    key = a_key(limits=Limits(tokens_per_minute=1, concurrency=1))
    used = Usage().entered().charged(5, 0.0)
    assert check(key, Scope.MODELS, used) is None
    assert check(key, Scope.INFERENCE, used) is not None


def test_a_request_comes_in_as_long_as_anything_is_left() -> None:
    key = a_key(limits=Limits(tokens_per_minute=10))
    assert check(key, usage=Usage().charged(9, 0.0)) is None
    error = check(key, usage=Usage().charged(10, 0.0))
    assert error is not None
    assert (error.status, error.code, error.retry_after_s, error.final) == (429, "tokens_per_minute_exceeded", 61, True)
    assert "10 tokens of 10 a minute" in error.message


def test_the_longer_of_two_waits_is_told() -> None:
    key = a_key(limits=Limits(tokens_per_minute=1, tokens_per_day=1))
    error = check(key, usage=Usage().charged(1, 0.0))
    assert error is not None
    assert (error.code, error.retry_after_s) == ("tokens_per_day_exceeded", DAY_S + DAY_S / 60)
    late_s = DAY_S + DAY_S / 60 - 5
    error = check(key, usage=Usage().charged(1, 0.0).charged(1, late_s), now_s=late_s)
    assert error is not None
    assert error.code == "tokens_per_day_exceeded"


def test_no_more_run_at_once_than_may() -> None:
    key = a_key(limits=Limits(concurrency=2))
    two = Usage().entered().entered()
    assert check(key, usage=Usage().entered()) is None
    error = check(key, usage=two)
    assert error is not None
    assert (error.status, error.code, error.retry_after_s) == (429, "concurrency_exceeded", None)
    assert check(key, usage=two.left(7, 0.0)) is None
    assert two.left(0, 0.0).minute == two.minute


STEPS = st.lists(st.tuples(st.floats(0, 3 * 3600), st.integers(0, 400), st.floats(0, 900)), max_size=25)
"""Requests: seconds since the one before, tokens of the answer, seconds it runs."""


@given(STEPS, st.integers(1, 500), st.integers(1, 2000), st.integers(1, 3))
def test_no_window_sees_more_than_its_limit_and_the_answers_that_ran_at_once(
    steps: list[tuple[float, int, float]], minute: int, day: int, at_once: int
) -> None:
    key = a_key(limits=Limits(tokens_per_minute=minute, tokens_per_day=day, concurrency=at_once))
    usage, now_s = Usage(), 0.0
    running: list[tuple[float, int]] = []
    charged: list[tuple[float, int]] = []
    for pause_s, tokens, runs_s in steps:
        now_s += pause_s
        for end_s, cost in sorted(one for one in running if one[0] <= now_s):
            usage = usage.left(cost, end_s)
            charged.append((end_s, cost))
            running.remove((end_s, cost))
        if refusal(key, Scope.INFERENCE, usage, wall_s=NOW_S, now_s=now_s) is None:
            usage = usage.entered()
            running.append((now_s + runs_s, tokens))
        assert len(running) <= at_once
    for span_s, limit in ((60.0, minute), (DAY_S, day)):
        for start_s, _ in charged:
            inside = [cost for at_s, cost in charged if 0 <= at_s - start_s < span_s - ROUNDING_S]
            assert sum(inside[:-at_once]) < limit


@given(STEPS, st.integers(1, 500), st.integers(1, 2000))
def test_a_request_at_the_time_that_was_told_is_let_in(
    steps: list[tuple[float, int, float]], minute: int, day: int
) -> None:
    key = a_key(limits=Limits(tokens_per_minute=minute, tokens_per_day=day))
    usage, now_s = Usage(), 0.0
    for pause_s, tokens, _ in steps:
        now_s += pause_s
        usage = usage.charged(tokens, now_s)
    error = refusal(key, Scope.INFERENCE, usage, wall_s=NOW_S, now_s=now_s)
    if error is not None:
        assert error.retry_after_s is not None
        later_s = now_s + error.retry_after_s
        assert refusal(key, Scope.INFERENCE, usage, wall_s=NOW_S, now_s=later_s) is None
        if error.retry_after_s > 1:
            assert refusal(key, Scope.INFERENCE, usage, wall_s=NOW_S, now_s=later_s - 1) is not None


@pytest.mark.parametrize(
    ("patterns", "model", "allowed"),
    [
        ((), "any", True), (("qwen*",), "qwen3-8b", True), (("qwen*",), "llama", False), (("a", "b?"), "b1", True),
        (("QWEN*",), "qwen", False), (("[ab]",), "b", True),
    ],
)  # fmt: skip
def test_patterns_say_which_models_a_key_may_use(patterns: tuple[str, ...], model: str, *, allowed: bool) -> None:
    error = model_refusal(a_key(models=patterns), model)
    assert (error is None) is allowed
    assert error is None or (error.status, error.code, error.param) == (403, "model_forbidden", "model")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90d", "2027-04-15 08:00 UTC"), ("12h", "2027-01-15 20:00 UTC"), ("30 min", "2027-01-15 08:30 UTC"),
        ("2w", "2027-01-29 08:00 UTC"), ("2027-01-31", "2027-01-31 00:00 UTC"),
        (" 2028-02-29 ", "2028-02-29 00:00 UTC"),
    ],
)  # fmt: skip
def test_when_a_key_expires_may_be_a_while_or_a_day(text: str, moment: str) -> None:
    assert format_moment(parse_expiry(text, NOW_S)) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "90",
        "0d",
        "2027-01-15",
        "2020-01-01",
        "2027-02-30",
        "9999-01-01",
        "1" * 80 + "d",
        "99999999999d",
        "-1d",
    ],
)
def test_what_is_no_such_moment_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_expiry(text, NOW_S)


def test_scopes_are_read_in_their_usual_order_and_strange_ones_refused() -> None:
    assert read_scopes(["models", "inference", "models"]) == ALL
    with pytest.raises(UsageError, match="there is no scope 'root'"):
        read_scopes(["root", "models"])


def test_a_key_of_a_configuration_opens_everything_and_is_known_by_its_place() -> None:
    first, second = declared = declared_keys(("open sesame", "other"))
    assert (first.id, second.id) == ("config-1", "config-2")
    assert check(first, Scope.ADMIN) is None
    assert first.may_use("anything")
    assert whose_declared("other", declared) is second
    assert whose_declared("open sesam", declared) is None
    assert whose_declared("other", ()) is None
    assert "sesame" not in repr(declared)


def test_keys_of_a_configuration_are_asked_for_though_none_was_made() -> None:
    assert required("auto", None, declared=True)
    assert not required("never", None, declared=True)
    assert unknown(None, None, declared=True).code == "missing_api_key"
    wrong = unknown("word", None, declared=True)
    assert (wrong.code, wrong.message) == ("invalid_api_key", "the API key is wrong: it is none of this server's")


def test_a_key_is_shown_in_one_header_and_none_in_none() -> None:
    assert shown("bk-1") == ((b"authorization", b"Bearer bk-1"),)
    assert shown("") == ()
