"""A drafting head or a draft model in the real engine: it guesses, and takes what was planned."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bercail.core.landing import compare
from bercail.core.launch import Landed, LaunchSpec
from bercail.core.options import EngineOptions
from bercail.core.plan import Fits, decide
from bercail.core.report import check_section
from bercail.engines import HttpUpstream, LlamaCpp
from bercail.probes import LocalProber
from bercail.readers import Readers
from tools.synth.__main__ import write_random
from tools.synth.shapes import known

pytestmark = pytest.mark.engine

SHAPE = {
    "arch": "qwen35", "build": "gdn", "layers": 4, "width": 256, "hidden": 512, "head": 4, "kv": 2, "hd": 64,
    "rope": 32, "sections": [8, 8, 0, 0], "vocab": 512, "ctx": 4096, "conv": 4, "state": 64, "group": 2, "dt": 4,
    "inner": 256, "interval": 4, "freq_base": 1e6, "eps": 1e-6, "nextn": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def headed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "headed.gguf"
    metadata, tensors = known(SHAPE)
    write_random(path, metadata, tensors)
    return path


LARGE = {
    "arch": "llama", "build": "llama", "layers": 4, "width": 256, "hidden": 512, "head": 4, "kv": 2, "hd": 64,
    "vocab": 512, "ctx": 4096, "freq_base": 1e4, "eps": 1e-6,
}  # fmt: skip


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model and one of a quarter of its size."""
    folder = tmp_path_factory.mktemp("pair")
    for name, layers in (("large", 4), ("small", 1)):
        write_random(folder / f"{name}.gguf", *known({**LARGE, "layers": layers}))
    return folder / "large.gguf", folder / "small.gguf"


def planned(path: Path, draft: Path | None = None, **wish: Any) -> Fits:
    reader = Readers({}, path.parent, path.parent)
    model = replace(reader.read(str(path)), draft=reader.read(str(draft)) if draft else None)
    verdict = decide(LocalProber().probe(), model, EngineOptions(**wish))
    assert isinstance(verdict, Fits), verdict.why
    return verdict


def served(path: Path, plan: Fits) -> tuple[dict[str, int], tuple[Landed, ...]]:
    """The timings of an answer, and what the load took."""

    async def story() -> tuple[dict[str, int], tuple[Landed, ...]]:
        spec = LaunchSpec(
            model_id="headed", model_path=str(path), weights_bytes=1, settings=plan.settings, draft_path=plan.draft
        )
        process, upstream = await LlamaCpp().start(spec, lambda _: None), HttpUpstream()
        try:
            body = {"prompt": [5, 300, 301], "n_predict": 6, "ignore_eos": True, "temperature": 0}
            answer = await upstream.send(process.address, "POST", "/completion", (), json.dumps(body).encode())
            said = json.loads(b"".join([chunk async for chunk in answer.chunks()]))
            return said["timings"], process.landed()
        finally:
            await upstream.close()
            await process.stop(2)

    return asyncio.run(story())


@pytest.mark.parametrize("wish", [{"slots": 1}, {"slots": 2, "kv_unified": True, "ubatch": 64}])
def test_it_guesses_and_takes_what_was_planned(headed: Path, wish: dict[str, Any]) -> None:
    plan = planned(headed, mtp=2, context=1024, **wish)
    timings, landed = served(headed, plan)
    assert timings["draft_n"] > 0
    as_planned(plan, landed)


@pytest.mark.parametrize("wish", [{"slots": 1}, {"slots": 2, "kv_unified": True, "ubatch": 64, "kv": "q8_0"}])
def test_a_draft_model_guesses_and_takes_what_was_planned(pair: tuple[Path, Path], wish: dict[str, Any]) -> None:
    plan = planned(*pair, draft_tokens=4, context=1024, **wish)
    timings, landed = served(pair[0], plan)
    assert timings["draft_n"] > 0
    as_planned(plan, landed)


def test_the_engine_accounts_for_a_draft_model_on_the_header_alone(pair: tuple[Path, Path]) -> None:
    plan = planned(*pair, context=2048, slots=2)
    account = asyncio.run(LlamaCpp().account(str(pair[0]), plan.settings, plan.draft))
    rows = {row[0]: row[3] for row in check_section(plan, account).rows}
    assert {name: rows[name] for name in ("KV cache", "output")} == {"KV cache": "exact", "output": "exact"}
    assert "less" not in rows["compute"]
    alone = asyncio.run(LlamaCpp().account(str(pair[0]), replace(plan.settings, draft_tokens=0)))
    assert sum(part.bytes for part in alone) < sum(part.bytes for part in account)


def as_planned(plan: Fits, landed: tuple[Landed, ...]) -> None:
    outcome = compare(plan, landed)
    assert outcome is not None
    assert outcome.surprises == ()
    off = {row.part: abs(row.took - row.planned) for row in outcome.rows}
    assert off.pop("compute") < 2 * 1024 * 1024
    for part, bytes_off in off.items():
        assert bytes_off < 16 * 1024, part  # the engine tells hundredths of a MiB


def test_without_a_wish_it_stays_out_of_memory(headed: Path) -> None:
    plan = planned(headed, context=1024, slots=1)
    timings, landed = served(headed, plan)
    assert "draft_n" not in timings
    assert sum(item.part == "KV cache" for item in landed) == 1


def test_the_engine_accounts_for_it_on_the_header_alone(headed: Path) -> None:
    plan = planned(headed, mtp=3, context=2048, slots=2)
    account = asyncio.run(LlamaCpp().account(str(headed), plan.settings))
    rows = {row[0]: row[3] for row in check_section(plan, account).rows}
    assert {name: rows[name] for name in ("KV cache", "recurrent state", "output")} == {
        "KV cache": "exact", "recurrent state": "exact", "output": "exact",
    }  # fmt: skip
    assert "less" not in rows["compute"]
