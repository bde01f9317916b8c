"""The fake engine as a program: ``python -m bercail.engines.fake``."""

import argparse
import asyncio
import contextlib
import sys

from bercail.core.launch import Address
from bercail.core.units import Tokens
from bercail.engines.fake import Behaviour, FakeServer


async def _serve(address: Address, behaviour: Behaviour, context_tokens: Tokens) -> None:
    server = FakeServer(behaviour=behaviour, context_tokens=context_tokens)
    found = await server.listen(address)
    sys.stdout.write(f"{found}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().create_future()


def main() -> None:
    """Serve until killed; the first line of output is the address."""
    parser = argparse.ArgumentParser(prog="python -m bercail.engines.fake", description="A fake llama-server.")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--port", type=int, default=0, help="on loopback; 0 takes a free one")
    where.add_argument("--uds", help="path of a unix socket instead")
    parser.add_argument("--tokens", type=int, default=16, help="per answer without max_tokens")
    parser.add_argument("--delay", type=float, default=0.0, metavar="S", help="between tokens")
    parser.add_argument("--prefill", type=float, default=0.0, metavar="S", help="before the first token")
    parser.add_argument("--context", type=int, default=4096, metavar="TOKENS")
    given = parser.parse_args()
    behaviour = Behaviour(tokens=given.tokens, delay_s=given.delay, prefill_s=given.prefill)
    address = Address(unix_path=given.uds) if given.uds else Address(port=given.port)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(address, behaviour, given.context))


if __name__ == "__main__":
    main()
