import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from bercail.cli.chat import DROPPED, leaves


@pytest.mark.parametrize(
    ("text", "leave"),
    [("/bye", True), ("/exit", True), ("/quit", True), ("exit", True), ("quit", True), ("how do I quit?", False)],
)
def test_the_words_that_end_other_programs_end_a_conversation(text: str, *, leave: bool) -> None:
    assert leaves(text) is leave


READER = "from bercail.cli.chat import read_line\nwhile (line := read_line()) is not None: print(f'<{line!r}>')"


@contextmanager
def typing(script: str) -> Iterator[Callable[[bytes], str]]:
    """A program in a terminal: each call types what it is given once it is asked for, and gives what is then shown."""
    shown, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "INPUTRC": "/dev/null"}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=terminal, stdout=terminal, stderr=terminal, env=environment
    ) as program:
        os.close(terminal)
        _until_asked(shown)

        def type_in(keys: bytes) -> str:
            os.write(shown, keys)
            return _until_asked(shown)

        try:
            yield type_in
        finally:
            program.kill()
            os.close(shown)


def _until_asked(shown: int) -> str:
    text = b""
    while not text.endswith(b"> ") and (more := os.read(shown, 4096)):
        text += more
    return text.decode()


def test_what_was_typed_before_ctrl_c_is_dropped_whole() -> None:
    pytest.importorskip("readline")
    with typing(READER) as type_in:
        assert f"<{'half a line' + DROPPED!r}>" in type_in(b"half a line\x03")
        assert "<'def'>" in type_in(b"def\r")
        assert "<'def'>" in type_in(b"\x1b[A\r")


def test_lines_that_are_pasted_are_one_question() -> None:
    pytest.importorskip("readline")
    with typing(READER) as type_in:
        assert r"<'first\nsecond'>" in type_in(b"\x1b[200~first\nsecond\x1b[201~\r")
