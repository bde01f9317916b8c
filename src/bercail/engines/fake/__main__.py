"""The fake engine as a program: ``python -m bercail.engines.fake``."""

import argparse
import asyncio
import signal
import sys

from bercail.core.launch import Address
from bercail.core.units import Tokens
from bercail.engines.fake import Behaviour, FakeServer
from bercail.engines.fake.engine import why_no_model


async def _serve(address: Address, behaviour: Behaviour, context_tokens: Tokens) -> None:
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(asked.set))
    server = FakeServer(behaviour=behaviour, context_tokens=context_tokens)
    found = await server.listen(address)
    sys.stdout.write(f"{found}\n")
    sys.stdout.flush()
    await asked.wait()
    await server.close()


def main() -> None:
    """Serve until told to end; the first line of output is the address."""
    parser = argparse.ArgumentParser(prog="python -m bercail.engines.fake", description="A fake llama-server.")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--port", type=int, default=0, help="on loopback; 0 takes a free one")
    where.add_argument("--uds", help="path of a unix socket instead")
    parser.add_argument("--model", metavar="FILE", help="ends at once unless it begins like a GGUF file")
    parser.add_argument("--tokens", type=int, default=16, help="per answer without max_tokens")
    parser.add_argument("--delay", type=float, default=0.0, metavar="S", help="between tokens")
    parser.add_argument("--prefill", type=float, default=0.0, metavar="S", help="before the first token")
    parser.add_argument("--context", type=int, default=4096, metavar="TOKENS")
    given = parser.parse_args()
    behaviour = Behaviour(tokens=given.tokens, delay_s=given.delay, prefill_s=given.prefill)
    address = Address(unix_path=given.uds) if given.uds else Address(port=given.port)
    if given.model and (problem := why_no_model(given.model)):
        sys.exit(f"fake engine: {given.model}: {problem}")
    asyncio.run(_serve(address, behaviour, given.context))


if __name__ == "__main__":
    main()
