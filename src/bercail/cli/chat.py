"""``bercail chat MODEL``."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager, nullcontext

import click

from bercail.cli.options import overrides, with_options
from bercail.cli.render import Style, say, show_error
from bercail.cli.server import sought, with_server
from bercail.cli.tell import TerminalTeller
from bercail.core.errors import EngineError
from bercail.core.measure import Turn
from bercail.core.model import DEMO_ID
from bercail.core.news_report import demo_line
from bercail.core.options import EngineOptions, LibraryOptions
from bercail.core.report import turn_line
from bercail.flows import Piece, Seat, ask, take_seat
from bercail.ports import House
from bercail.wiring import build_house, new_loop

_PROMPT = "> "
DROPPED = "\x03"
_HELP = "/clear starts afresh; /quit, /exit, /bye, quit, exit or Ctrl-D leave; Ctrl-C stops an answer"


@click.command("chat")
@click.argument("model", default="")
@click.option("--system", default=None, help="A system message to begin with.")
@with_server
@with_options(EngineOptions, LibraryOptions)
def command(model: str, *, system: str | None, config: str | None, **parameters: object) -> None:
    """Talk to MODEL: an id of the running server, or a file, for which an engine is started and stopped again.

    Without MODEL, the model that the running server has loaded. After each answer: time to first token, prefill and
    decode speed, context used. Reads lines from a pipe as well. BERCAIL_KEY is the API key for a server that needs one.
    """
    given = overrides(parameters)
    house = build_house(config, given, serving=True)
    opening = [{"role": "system", "content": system}] if system else []
    wishes = tuple(f"--{key.partition('.')[2]}".replace("_", "-") for key in given if key.startswith("engine."))
    with asyncio.Runner(loop_factory=new_loop) as runner, TerminalTeller() as teller:
        seat = take_seat(
            house,
            model,
            teller.tell,
            os.environ.get("BERCAIL_KEY", ""),
            sought(config, given),
        )
        runner.run(_sit(house, seat, opening, wishes))


async def _sit(
    house: House, taken: AbstractAsyncContextManager[Seat], opening: list[dict[str, str]], wishes: tuple[str, ...]
) -> None:
    async with taken as seat:
        where = f"the server at {seat.address}" if seat.running else "an engine of its own"
        say(f"{seat.model_id} on {where}; {_HELP}")
        if seat.model_id == DEMO_ID:
            say(demo_line(), Style.WARNING)
        if seat.running and wishes:
            say(f"note     the running server decides these, they are not heeded: {', '.join(wishes)}", Style.WARNING)
        await _Conversation(house, seat, opening).hold()


class _Conversation:
    """A conversation in the terminal. Ctrl-C stops the answer, never the conversation."""

    def __init__(self, house: House, seat: Seat, opening: list[dict[str, str]]) -> None:
        self._house = house
        self._seat = seat
        self._opening = opening
        self._messages = list(opening)
        self._answering: asyncio.Task[None] | None = None

    async def hold(self) -> None:
        """Until the user leaves."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        try:
            while (line := await asyncio.to_thread(read_line)) is not None:
                if DROPPED in line:
                    say(_HELP)
                elif not await self._obey(line.strip()):
                    break
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    async def _obey(self, text: str) -> bool:
        """Do what a line says; False if it says to leave."""
        if leaves(text):
            return False
        if text == "/clear":
            self._messages = list(self._opening)
            say("the conversation is empty again")
        elif text.startswith("/"):
            say(f"there is no command {text.split()[0]}; {_HELP}")
        elif text:
            self._answering = asyncio.create_task(self._turn(text))
            await asyncio.wait({self._answering})
            self._answering = None
        return True

    def _interrupt(self) -> None:
        if self._answering is not None:
            self._answering.cancel()
        else:
            say(f"\n{_HELP}")
            if sys.stdin.isatty() and sys.stdout.isatty():
                sys.stdout.write(_PROMPT)  # input() still waits and does not ask again
                sys.stdout.flush()

    async def _turn(self, text: str) -> None:
        """One question and its answer; one that brought no text leaves the conversation as it was."""
        asked = {"role": "user", "content": text}
        answer: list[str] = []
        try:
            async with aclosing(ask(self._house, self._seat, [*self._messages, asked])) as items:
                async for item in items:
                    if isinstance(item, Piece):
                        _write(item)
                        answer.extend([] if item.thought else [item.text])
                    else:
                        _finish(item)
        except EngineError as error:
            sys.stdout.write("\n")
            show_error(error, as_json=False)
        except asyncio.CancelledError:
            say("\n[stopped]", Style.DIM)
        if answer:
            self._messages += [asked, {"role": "assistant", "content": "".join(answer)}]


def leaves(text: str) -> bool:
    """Whether a line says to leave: as a command, or as the bare word that ends other programs."""
    return text in ("/quit", "/exit", "/bye", "quit", "exit")


def read_line() -> str | None:
    """What the user enters, or None at the end of input; in a terminal with editing and history.

    There, pasted lines are one entry, and what Ctrl-C was pressed in holds ``DROPPED``.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return sys.stdin.readline() or None
    editing = _bind_keys()
    try:
        with _interrupt_as_key() if editing else nullcontext():
            line = input(_PROMPT)
    except EOFError:
        sys.stdout.write("\n")
        return None
    if editing and DROPPED in line:
        _forget_last()
    return line


def _bind_keys() -> bool:
    """Whether GNU readline edits lines; then Ctrl-C is a key that enters itself, and what is pasted one text."""
    try:
        import readline
    except ImportError:
        return False
    if "libedit" in (readline.__doc__ or ""):
        return False
    readline.parse_and_bind("set enable-bracketed-paste on")
    readline.parse_and_bind(r'"\C-c": "\C-v\C-c\C-m"')
    return True


@contextmanager
def _interrupt_as_key() -> Iterator[None]:
    """Ctrl-C reaches readline instead of being a signal.

    Lines are read in a thread, where no signal interrupts readline: it would keep what was typed, and put it before the
    next line unseen.
    """
    import termios  # where there is readline; Windows has neither

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    changed = termios.tcgetattr(terminal)
    changed[6][termios.VINTR] = bytes((os.fpathconf(terminal, "PC_VDISABLE"),))
    termios.tcsetattr(terminal, termios.TCSANOW, changed)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)


def _forget_last() -> None:
    import readline

    readline.remove_history_item(readline.get_current_history_length() - 1)


def _write(piece: Piece) -> None:
    stream = sys.stderr if piece.thought else sys.stdout
    stream.write(piece.text)
    stream.flush()


def _finish(turn: Turn) -> None:
    sys.stdout.write("\n")
    sys.stdout.flush()
    say(f"[{turn_line(turn)}]", Style.DIM)
