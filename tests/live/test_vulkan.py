"""The demo on Vulkan devices: Mesa's llvmpipe, a real driver that plays a GPU on the processor.

Runs where `bercail engine build --backend vulkan` was and the driver is installed.
"""

import asyncio
import json
import os
import platform
from dataclasses import replace
from pathlib import Path

import pytest

from bercail.core.build import Build
from bercail.core.devices import beside, is_software, usable
from bercail.core.engine import Choice, Offer
from bercail.core.landing import compare
from bercail.core.launch import Landed, LaunchSpec
from bercail.core.options import EngineOptions
from bercail.core.plan import Fits, decide
from bercail.core.units import MIB
from bercail.demo import demo_path
from bercail.engines import HttpUpstream, LlamaCpp, Server, Workshop
from bercail.probes import LocalProber
from bercail.readers import Readers
from bercail.store import find_paths

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]  # llvmpipe compiles a shader when it is first used

SMALL = EngineOptions(context=2048, slots=1, prompt_cache=0, repack=False)
QUESTION = "What is Bercail?"


def the_build() -> Build:
    paths = find_paths(os.environ, home=Path.home(), system=platform.system(), user_id=None)
    builds = [build for build in Workshop(paths.cache / "engines", {}).builds() if build.recipe.target == "vulkan"]
    return builds[0] if builds else pytest.skip("no Vulkan build here: `bercail engine build --backend vulkan`")


class Bench:
    """The build, with these devices of the Vulkan loader in sight."""

    def __init__(self, visible: str) -> None:
        build = the_build()
        self.engine = LlamaCpp(Server.built(build, {**os.environ, "GGML_VK_VISIBLE_DEVICES": visible}))
        self.offer: Offer = asyncio.run(self.engine.look())
        if not self.offer.gpus:
            pytest.skip(f"the Vulkan build {self.offer.trouble}")
        if not is_software(self.offer.gpus[0].name):
            pytest.skip(f"the first Vulkan device is {self.offer.gpus[0].name}, not llvmpipe")

    def plan(self, **wish: object) -> Fits:
        options = replace(SMALL, **wish)  # type: ignore[arg-type] # a test names them
        path = demo_path() or pytest.skip("the demo is not in this installation")
        model = Readers({}, Path("/"), Path("/")).read(str(path))
        machine = beside(LocalProber().probe(), usable(self.offer.gpus, options.gpus, forced=True))
        verdict = decide(machine, model, options, engine=Choice(offer=self.offer, because="asked for"))
        assert isinstance(verdict, Fits), verdict.why
        return verdict

    def run(self, plan: Fits) -> tuple[str, tuple[Landed, ...]]:
        """What the demo says at temperature 0, and what landed where."""
        spec = LaunchSpec(model_id="demo", model_path=plan.model_path, weights_bytes=1, settings=plan.settings)

        async def story() -> tuple[str, tuple[Landed, ...]]:
            process = await self.engine.start(spec, lambda _: None)
            upstream = HttpUpstream()
            try:
                body = json.dumps({"messages": [{"role": "user", "content": QUESTION}], "temperature": 0}).encode()
                head = [(b"content-type", b"application/json")]
                response = await upstream.send(process.address, "POST", "/v1/chat/completions", head, body)
                said = json.loads(b"".join([piece async for piece in response.chunks()]))
                return str(said["choices"][0]["message"]["content"]), process.landed()
            finally:
                await upstream.close()
                await process.stop(10.0)

        return asyncio.run(story())


def test_the_demo_says_on_vulkan_what_it_says_on_the_cpu_and_lands_as_planned() -> None:
    bench = Bench("0")
    assert (bench.offer.gpus[0].device, bench.offer.gpus[0].shared) == ("Vulkan0", True)
    on_gpu, on_cpu = bench.plan(), bench.plan(gpus="none")
    assert (on_gpu.settings.devices, on_cpu.settings.devices) == (("Vulkan0",), ("none",))
    said, landed = bench.run(on_gpu)
    assert "private AI server" in said
    assert said == bench.run(on_cpu)[0]
    outcome = compare(on_gpu, landed)
    assert outcome is not None
    assert outcome.surprises == ()
    rows = {row.part: row for row in outcome.rows if row.device == "vulkan0"}
    for part in ("weights", "KV cache"):
        assert abs(rows[part].took - rows[part].planned) < MIB // 50  # it tells hundredths
    assert rows["compute"].took <= rows["compute"].planned


def test_two_devices_share_the_demo_as_planned() -> None:
    bench = Bench("0,0")
    shared, alone = bench.plan(split="layer"), bench.plan(gpus="1")
    assert shared.settings.devices == ("Vulkan0", "Vulkan1")
    assert alone.settings.devices == ("Vulkan1",)
    said, landed = bench.run(shared)
    outcome = compare(shared, landed)
    assert outcome is not None
    assert outcome.surprises == ()
    assert {item.place for item in landed if item.part == "KV cache"} == {"Vulkan0", "Vulkan1"}
    again, landed_alone = bench.run(alone)
    assert again == said
    assert {item.place for item in landed_alone if item.part == "KV cache"} == {"Vulkan1"}
