"""A name is offered if it was meant, and none is if none was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.alike import alike, names_there

OPTIONS = (
    "--host", "--port", "--config", "--context", "--slots", "--cores", "--no-mmap", "--mmap", "--memory", "--threads",
    "--threads-batch", "--kv-type-k", "--kv-type-v", "--kv", "--draft-tokens", "--gpu-layers", "--json-log",
)  # fmt: skip
KEYS = ("cmd", "ttl", "aliases", "models", "groups", "macros", "healthCheckTimeout", "context", "server", "startPort")
MODELS = ("bercail-demo", "qwen3-8b-q4_k_m", "qwen3-4b-q4_k_m", "stories260K-q8_0", "llama-3.2-1b-instruct")
COMMANDS = ("up", "serve", "ps", "load", "unload", "profile", "chat", "plan", "inspect", "machine", "models", "keys")


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("--hosst", OPTIONS, "--host"),
        ("--contxt", OPTIONS, "--context"),
        ("--ctx", OPTIONS, None),
        ("--nope", OPTIONS, None),
        ("--model", OPTIONS, None),
        ("--batch-threads", OPTIONS, "--threads-batch"),
        ("--kv_type_k", OPTIONS, "--kv-type-k"),
        ("--thread", OPTIONS, "--threads"),
        ("--layers", OPTIONS, "--gpu-layers"),
        ("--json", OPTIONS, "--json-log"),
        ("-z", OPTIONS, None),
        ("modles", KEYS, "models"),
        ("healthcheck_timeout", KEYS, "healthCheckTimeout"),
        ("context_length", KEYS, "context"),
        ("contextLengthOfEveryModel", KEYS, None),
        ("serve", KEYS, "server"),
        ("md", KEYS, "cmd"),
        ("tlt", KEYS, "ttl"),
        ("temperature", KEYS, None),
        ("proxy", KEYS, None),
        ("barcail-demo", MODELS, "bercail-demo"),
        ("stories", MODELS, "stories260K-q8_0"),
        ("STORIES260k", MODELS, "stories260K-q8_0"),
        ("qwen3-8b-q4_k", MODELS, "qwen3-8b-q4_k_m"),
        ("llama3.2", MODELS, "llama-3.2-1b-instruct"),
        ("llama", MODELS, "llama-3.2-1b-instruct"),
        ("nonsense", MODELS, None),
        ("gpt-4o-mini", MODELS, None),
        ("mistral-7b-instruct", MODELS, None),
        ("plna", COMMANDS, "plan"),
        ("run", COMMANDS, None),
        ("list", COMMANDS, None),
        ("start", COMMANDS, None),
        ("model", COMMANDS, "models"),
        ("bench", COMMANDS, None),
        ("", COMMANDS, None),
        ("x" * 300, COMMANDS, None),
    ],
)
def test_the_name_that_was_meant_is_offered(name: str, known: tuple[str, ...], meant: str | None) -> None:
    assert alike(name, known) == ((meant,) if meant else ())


def test_as_many_as_are_wanted_are_offered_the_nearest_first() -> None:
    assert alike("qwen3-4b-q4_k", MODELS, most=3) == ("qwen3-4b-q4_k_m", "qwen3-8b-q4_k_m")


def test_a_hint_names_what_may_have_been_meant_and_all_that_there_is() -> None:
    assert names_there("storis", ("stories", "b")) == "did you mean stories? there are: stories, b"
    assert names_there("gpt-4", ("stories", "b")) == "there are: stories, b"
    assert names_there("gpt-4", ()) == "there are: none that are listed"


def test_what_only_punctuation_makes_is_compared_as_it_is() -> None:
    assert alike("---", ("---", "a")) == ("---",)


LETTERS = st.text("abcdefgh", min_size=4, max_size=12)


@given(LETTERS, st.integers(0, 11), st.sampled_from("xyz"))
def test_one_wrong_letter_hides_no_name(name: str, place: int, wrong: str) -> None:
    place %= len(name)
    assert alike(name[:place] + wrong + name[place + 1 :], (name,)) == (name,)


@given(LETTERS, st.integers(0, 10))
def test_two_letters_in_the_wrong_order_hide_no_name(name: str, place: int) -> None:
    place %= len(name) - 1
    swapped = name[:place] + name[place + 1] + name[place] + name[place + 2 :]
    assert alike(swapped, (name,)) == (name,)


@given(LETTERS, st.lists(st.text("ijklmnop", min_size=1, max_size=12)))
def test_a_name_without_a_letter_in_common_is_never_offered(name: str, known: list[str]) -> None:
    assert alike(name, known, most=9) == ()


@given(st.text(max_size=20), st.lists(st.text(max_size=20)), st.integers(1, 3))
def test_only_known_names_are_offered_and_not_more_than_wanted(name: str, known: list[str], most: int) -> None:
    offered = alike(name, known, most=most)
    assert len(offered) <= most
    assert set(offered) <= set(known)


@given(LETTERS)
def test_a_known_name_is_nearest_to_itself(name: str) -> None:
    assert alike(name, (name + "x", name[1:], name))[0] == name
