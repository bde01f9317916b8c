"""Variables of older builds of llama-server say what their flags would, and none is passed over in silence."""

import re
import subprocess
import sys

import pytest

from bercail.core.errors import UsageError
from bercail.engines.llama_cpp import stand_in
from bercail.engines.llama_cpp.old_flags import translated
from bercail.engines.llama_cpp.variables import Said, port_notice, said_by


@pytest.mark.parametrize(
    ("name", "value", "words", "told"),
    [
        ("LLAMA_ARG_NO_MMAP", "1", ("--no-mmap",), "LLAMA_ARG_NO_MMAP=1 of an older build: --no-mmap"),
        ("LLAMA_ARG_NO_MMAP", "0", (), "left out, it is so anyway"),
        ("LLAMA_ARG_MMAP", "False", ("--no-mmap",), "--no-mmap"),
        ("LLAMA_ARG_MMAP", "on", (), "left out"),
        ("LLAMA_ARG_DRAFT_MAX", "4", ("--draft-max", "4"), "--draft-max 4"),
        ("LLAMA_ARG_MODEL_DRAFT", "d.gguf", ("--spec-draft-model", "d.gguf"), "--spec-draft-model d.gguf"),
        ("LLAMA_LOG_FILE", "l.txt", ("--log-file", "l.txt"), "--log-file l.txt"),
    ],
)
def test_a_variable_of_an_older_build_is_said_as_a_flag_and_told(
    name: str, value: str, words: tuple[str, ...], told: str
) -> None:
    found = said_by({name: value, "PATH": "/bin"})
    assert (found.arguments, found.spent) == (words, frozenset((name,)))
    assert told in found.notices[0]


def test_what_older_variables_say_goes_on_to_todays_flags() -> None:
    found = said_by({"LLAMA_ARG_NO_MMAP": "1", "LLAMA_ARG_MLOCK": "1"})
    assert translated(found.arguments)[0] == ("--load-mode", "mlock")
    with pytest.raises(UsageError, match="--grp-attn-n was removed"):
        translated(said_by({"LLAMA_ARG_GRP_ATTN_N": "4"}).arguments)


def test_a_variable_that_nobody_reads_is_named_with_the_one_that_may_be_meant() -> None:
    found = said_by({"LLAMA_ARG_CTX_SIZES": "512", "LLAMA_ARG_XYZ": "1"})
    assert found.notices == (
        "LLAMA_ARG_CTX_SIZES: passed over, llama-server has no such variable; did you mean LLAMA_ARG_CTX_SIZE?",
        "LLAMA_ARG_XYZ: passed over, llama-server has no such variable",
    )
    assert (found.arguments, found.spent) == ((), frozenset())


def test_variables_of_today_are_left_alone() -> None:
    assert said_by({"LLAMA_ARG_CTX_SIZE": "512", "LLAMA_ARG_NO_CONT_BATCHING": "1", "LLAMA_API_KEY": "x"}) == Said()


@pytest.mark.engine
def test_every_variable_of_the_engines_help_is_known() -> None:
    argv = (sys.executable, "-m", stand_in.__name__, "--help")
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=240)
    names = set(re.findall(r"env: (LLAMA_ARG_\w+)", done.stdout))
    assert len(names) > 100
    found = said_by(dict.fromkeys(names, "1"))
    assert not [notice for notice in found.notices if "passed over" in notice]


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (("--port", "8080"), {}),
        (("--port", "0"), {"LLAMA_ARG_PORT": "x"}),
        (("--port", "x", "--port", "65535"), {}),
        ((), {"LLAMA_ARG_PORT": "8080"}),
        (("--host", "/s.sock"), {}),
        ((), {"LLAMA_ARG_HOST": "/s.sock"}),
    ],
)
def test_a_port_that_is_given_takes_no_words(arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    assert port_notice(arguments, environment) == ""


def test_where_no_port_is_given_it_is_told() -> None:
    assert "at 9931 today, older builds did at 8080 (--port 8080)" in port_notice(("-c", "5"), {})


@pytest.mark.parametrize("port", ["70000", "-5", "x", "1.5", "²"])
def test_what_is_no_port_is_refused_in_words(port: str) -> None:
    with pytest.raises(UsageError, match="that is no port"):
        port_notice(("--port", port), {})
    with pytest.raises(UsageError, match=f"LLAMA_ARG_PORT {port}"):
        port_notice((), {"LLAMA_ARG_PORT": port})
