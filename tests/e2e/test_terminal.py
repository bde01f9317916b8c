"""The conversation in a terminal of its own, as a person has it."""

import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import BERCAIL, CHATML, PATIENCE_S
from e2e.parrot import write_parrot

pytestmark = pytest.mark.engine


class Terminal:
    """A pseudo-terminal with a command in it."""

    def __init__(self, argv: list[str], environment: dict[str, str], cwd: Path) -> None:
        self._main, inner = pty.openpty()
        self.process = subprocess.Popen(
            argv, stdin=inner, stdout=inner, stderr=inner, env=environment, cwd=cwd, start_new_session=True
        )
        os.close(inner)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._main, text.encode())

    def wait_for(self, text: str) -> str:
        """All that was shown up to ``text``, which is then forgotten."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if select.select([self._main], [], [], 0.1)[0]:
                self.seen += os.read(self._main, 65536).decode(errors="replace")
        before, self.seen = self.seen.split(text, 1)
        return before

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._main)


@pytest.fixture
def chat(environment: dict[str, str], tmp_path: Path) -> Iterator[Terminal]:
    path = write_parrot(tmp_path / "p.gguf", "and so on", template=CHATML, context_tokens=131072, endless=True)
    terminal = Terminal([*BERCAIL, "chat", str(path), "--port", "1"], environment | {"TERM": "dumb"}, tmp_path)
    yield terminal
    terminal.close()


def test_a_number_that_is_not_in_the_list_is_asked_for_again(environment: dict[str, str], tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_parrot(tmp_path / f"{name}.gguf", "and so on", template=CHATML)
    up = Terminal([*BERCAIL, "up", str(tmp_path), "--port", "0"], environment | {"TERM": "dumb"}, tmp_path)
    try:
        for wrong in ("9", "0", "a"):
            up.wait_for("Which one first? A number, or Enter for none: ")
            up.type(f"{wrong}\n")
            up.wait_for(f"'{wrong}' is none of 1 to 2")
        up.wait_for("Which one first?")
        up.type("2\n")
        up.wait_for("ready    b after")
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(PATIENCE_S) == 0
    finally:
        up.close()


def test_ctrl_c_stops_the_answer_and_not_the_conversation(chat: Terminal) -> None:
    chat.wait_for("Ctrl-C stops an answer")
    chat.wait_for("> ")
    chat.type("tell me everything\n")
    chat.wait_for("and so on")
    chat.process.send_signal(signal.SIGINT)
    chat.wait_for("[stopped]")
    chat.wait_for("> ")
    chat.process.send_signal(signal.SIGINT)
    chat.wait_for("Ctrl-D leave")
    chat.type("/nonsense\n")
    chat.wait_for("there is no command /nonsense")
    chat.type("/quit\n")
    assert chat.process.wait(PATIENCE_S) == 0
