"""What a configuration changes in the bodies of requests."""

import json

from bercail.core.command import CommandSpec
from bercail.core.declared import Declared, Filters
from bercail.core.rewriting import changes, rewritten

SOURCE = CommandSpec(model_id="m")


def test_keys_are_taken_out_then_set_then_set_for_the_name_that_was_asked_for() -> None:
    filters = Filters(
        strip=("temperature", "top_p"),
        values={"top_p": 0.5, "seed": 7, "model": "no"},
        by_name={"m:high": {"seed": 8, "reasoning_effort": "high"}},
    )
    declared = Declared(id="m", line=1, source=SOURCE, filters=filters, upstream_name="org/real")
    body = '{"model":"m:high","temperature":1,"top_p":1,"text":"é"}'.encode()
    assert json.loads(rewritten(body, declared, "m:high")) == {
        "model": "org/real", "top_p": 0.5, "seed": 8, "reasoning_effort": "high", "text": "é",
    }  # fmt: skip
    assert json.loads(rewritten(body, declared, "m"))["seed"] == 7


def test_the_name_of_the_model_is_kept_unless_the_server_has_another() -> None:
    declared = Declared(id="m", line=1, source=SOURCE, filters=Filters(values={"model": "no"}))
    assert json.loads(rewritten(b'{"model":"m"}', declared, "m")) == {"model": "m"}
    named = Declared(id="m", line=1, source=SOURCE, upstream_name="real")
    assert json.loads(rewritten(b"{}", named, "m")) == {"model": "real"}


def test_most_requests_are_left_alone() -> None:
    plain = Declared(id="m", line=1, source=SOURCE, filters=Filters(by_name={"m:high": {"seed": 8}}))
    assert not changes(None, "m")
    assert not changes(plain, "m")
    assert changes(plain, "m:high")
    assert changes(Declared(id="m", line=1, source=SOURCE, upstream_name="x"), "m")
