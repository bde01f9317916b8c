"""Run by a test: starts an engine on ``argv[1]``, says so, and waits to be killed."""

import asyncio
import sys
from pathlib import Path

from bercail.core.engine import EngineSettings
from bercail.core.launch import LaunchSpec
from bercail.engines import LlamaCpp

SETTINGS = EngineSettings(
    context_tokens=256, slots=1, kv_unified=False, batch_tokens=64, ubatch_tokens=64, kv_type_k="f16",
    kv_type_v="f16", flash_attention=True, threads=1, threads_batch=1, mmap=True, repack=False, warmup=False,
)  # fmt: skip


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def main() -> None:
    spec = LaunchSpec(model_id="m", model_path=sys.argv[1], weights_bytes=1, settings=SETTINGS)
    await LlamaCpp(runtime_dir=Path(sys.argv[2])).start(spec, lambda step: say(f"loading {step.fraction}"))
    say("ready")
    await asyncio.get_running_loop().create_future()


asyncio.run(main())
