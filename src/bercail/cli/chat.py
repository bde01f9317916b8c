"""``bercail chat MODEL``."""

import asyncio
import sys

import click

from bercail.cli.options import overrides, with_options
from bercail.cli.render import Style, say, show_error
from bercail.cli.tell import TerminalTeller
from bercail.core.errors import EngineError
from bercail.core.measure import Turn
from bercail.core.options import EngineOptions, ModelOptions, ServerOptions
from bercail.core.report import turn_line
from bercail.flows import Piece, Seat, ask, take_seat
from bercail.ports import House
from bercail.wiring import build_house, new_loop

_HELP = "/clear starts afresh, /quit or Ctrl-D leaves, Ctrl-C stops an answer"


@click.command("chat")
@click.argument("model", default="")
@click.option("--system", default=None, help="A system message to begin with.")
@click.option("--config", metavar="FILE", default=None, help="Settings file to read instead of the usual one.")
@with_options(EngineOptions, ModelOptions, ServerOptions)
def command(model: str, *, system: str | None, config: str | None, **parameters: object) -> None:
    """Talk to MODEL: an id of the running server, or a file, for which an engine is started and stopped again.

    After each answer: time to first token, prefill and decode speed, context used. Reads lines from a pipe as well.
    """
    house = build_house(config, overrides(parameters), serving=True)
    opening = [{"role": "system", "content": system}] if system else []
    with asyncio.Runner(loop_factory=new_loop) as runner, TerminalTeller() as teller:
        runner.run(_talk(house, model, opening, teller))


async def _talk(house: House, model: str, opening: list[dict[str, str]], teller: TerminalTeller) -> None:
    async with take_seat(house, model, teller.tell) as seat:
        where = f"the server at {seat.address}" if seat.running else "an engine of its own"
        say(f"{seat.model_id} on {where}; {_HELP}")
        messages = list(opening)
        while (line := await asyncio.to_thread(_read_line)) is not None:
            text = line.strip()
            if text in ("/quit", "/exit"):
                break
            if text == "/clear":
                messages = list(opening)
                say("the conversation is empty again")
            elif text:
                await _turn(house, seat, messages, text)


def _read_line() -> str | None:
    """A line from the user, or None at the end of input."""
    if sys.stdin.isatty():
        sys.stderr.write("> ")
        sys.stderr.flush()
    return sys.stdin.readline() or None


async def _turn(house: House, seat: Seat, messages: list[dict[str, str]], text: str) -> None:
    """One question and its answer; a failed one leaves the conversation as it was."""
    messages.append({"role": "user", "content": text})
    answer: list[str] = []
    try:
        async for item in ask(house, seat, messages):
            if isinstance(item, Piece):
                _write(item)
                answer.extend([] if item.thought else [item.text])
            else:
                _finish(item)
    except EngineError as error:
        sys.stdout.write("\n")
        show_error(error, as_json=False)
    if answer:
        messages.append({"role": "assistant", "content": "".join(answer)})
    else:
        messages.pop()


def _write(piece: Piece) -> None:
    stream = sys.stderr if piece.thought else sys.stdout
    stream.write(piece.text)
    stream.flush()


def _finish(turn: Turn) -> None:
    sys.stdout.write("\n")
    sys.stdout.flush()
    say(f"[{turn_line(turn)}]", Style.DIM)
