import json
import shlex
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from bercail.core import news, news_report, report
from bercail.core.budget import Device, Part
from bercail.core.machine import Machine
from bercail.core.measure import Turn
from bercail.core.model import Findings, FoundModel, Model, ModelFile, Role, Tokenizer
from bercail.core.options import EngineOptions
from bercail.core.plan import Fits, NoFit, decide
from bercail.core.units import GIB, MIB
from fakes.models import a_found, a_gpu, a_machine, a_model, a_shape, a_tensor, machines, models, wishes
from fakes.news import EVERY_NEWS, a_plan


def cells(section: report.Section) -> dict[str, str]:
    return {row[0]: row[1] for row in section.rows}


def test_inspect_begins_with_a_sensible_summary() -> None:
    model = a_model(
        name="Tiny Llama", qat=True, license="mit", tokenizer=Tokenizer(model="gpt2", pre="qwen2", tokens=151936),
        shape=a_shape(experts=128, experts_used=8),
    )  # fmt: skip
    first = report.inspect_sections(model)[0]
    rows = cells(first)
    assert first.title == "Tiny Llama"
    assert rows["architecture"] == "llama, 4 layers, 8 of 128 experts"
    assert rows["quantization"] == "F16, 16.00 bits per weight, quantization-aware training"
    assert rows["tokenizer"] == "gpt2 (qwen2), 151,936 tokens"
    assert rows["context"] == "8,192 tokens"
    assert rows["license"] == "mit"
    assert rows["chat template"] == "14 characters"


def test_inspect_says_what_a_file_does_not_have() -> None:
    model = a_model(chat_template=None, capabilities=(), tokenizer=Tokenizer(model=None, pre=None, tokens=None))
    rows = cells(report.inspect_sections(model)[0])
    assert [rows[key] for key in ("chat template", "capabilities", "tokenizer", "license", "projector")] == [
        "none", "none", "none", "not stated", "none",
    ]  # fmt: skip
    bare = Tokenizer(model="llama", pre=None, tokens=None)
    assert cells(report.inspect_sections(a_model(tokenizer=bare))[0])["tokenizer"] == "llama, 0 tokens"


def test_inspect_shows_types_mix_parts_and_notes() -> None:
    files = tuple(ModelFile(path=f"/m/{n}.gguf", bytes=MIB, data_offset=0) for n in range(2))
    model = a_model(files=files, notes=("odd",), tensors=(a_tensor(kind="q4_k"), a_tensor("output.weight")))
    titles = [section.title for section in report.inspect_sections(model)]
    assert titles == ["tiny", "Tensor types", "Mix by tensor class", "Files", "Notes"]
    assert [section.title for section in report.inspect_sections(a_model())][3:] == []
    types = report.inspect_sections(model)[1].rows
    assert types[0] == ("f16", "1", "128.0 KiB", "78.0 %", "16")
    assert report.inspect_sections(model)[2].rows[1][2] == "-"


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(machines(), models(), wishes)
def test_any_model_and_plan_is_a_table_without_ragged_rows(machine: Machine, model: Model, wish: EngineOptions) -> None:
    verdict = decide(machine, model, wish)
    for section in (*report.inspect_sections(model), *report.plan_sections(verdict)):
        width = len(section.header) or 2
        assert all(len(row) == width for row in section.rows)
        assert section.title
    line = report.plan_line(verdict)
    if isinstance(verdict, Fits):
        assert line.startswith("fits: context")
    else:
        assert line.startswith("cannot be had: " if verdict.contradiction or verdict.illegal else "does not fit: ")


def test_a_plan_is_told_in_a_line() -> None:
    plan = a_plan()
    assert report.plan_line(plan).startswith("fits: context 8,192 x 4 slots, ")
    assert report.plan_line(plan).endswith(" of 8.00 GiB, 4 threads, llama.cpp")
    one = replace(plan, settings=replace(plan.settings, slots=1, context_tokens=8192))
    assert "8,192 x 1 slot," in report.plan_line(one)


def test_a_context_beyond_the_models_own_is_not_told_as_a_lack_of_memory() -> None:
    line = report.plan_line(refused(8 * GIB, context=1 << 20))
    assert line.startswith("cannot be had: context 1,048,576 is more than the 8,192 tokens the model was trained for")


def refused(available: int, **wish: Any) -> NoFit:
    verdict = decide(a_machine(available), a_model(), EngineOptions(**wish))
    assert isinstance(verdict, NoFit)
    return verdict


def test_a_refusal_says_what_would_fit() -> None:
    verdict = refused(8 * GIB, context=9000)
    assert report.plan_sections(verdict)[-1].title == "What would fit"
    assert report.no_fit_hint(verdict) == "context 8,192 fits (costs a shorter conversation)"
    assert report.no_fit_hint(refused(0)).endswith("of free main memory it fits (costs memory)")
    odd = refused(8 * GIB, kv="q8_0", kv_type_k="f16")
    assert report.no_fit_hint(odd).startswith("take back one of what it names")
    assert report.plan_sections(odd)[-1].title == "Settings"


def test_a_plan_shows_total_and_available_and_ways_to_more() -> None:
    verdict = decide(a_machine(), a_model(), EngineOptions(context=1024))
    first, *_, last = report.plan_sections(verdict)
    assert [row[1] for row in first.rows][-3:] == ["total", "available", "error bound"]
    assert last.title == "Alternatives"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "Test CPU: 4 cores, avx2"), ({"quota_cpus": 1.5}, "Test CPU: 4 cores, quota 1.5 CPUs, avx2"),
        ({"physical_cores": None}, "Test CPU: 8 CPUs, avx2"),
        ({"model_name": None, "instruction_sets": ()}, "x86_64: 4 cores, no vector extensions known"),
    ],
)  # fmt: skip
def test_a_processor_is_told_in_a_line(changes: dict[str, Any], line: str) -> None:
    assert report.machine_lines(a_machine(**changes))[0] == line


def test_memory_tells_its_limit_speed_and_oddities() -> None:
    machine = a_machine()
    assert report.machine_lines(machine)[1:] == ("8.00 GiB of 16.0 GiB memory available",)
    tight = replace(machine.memory, limited_by="/docker/abc", bandwidth_bytes_per_s=36.24e9)
    odd = replace(machine, memory=tight, notes=("no cpu list",))
    assert report.machine_lines(odd)[1:] == (
        "8.00 GiB of 16.0 GiB memory available (limited by /docker/abc), reads 36.2 GB/s", "no cpu list",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("turn", "line"),
    [
        (Turn(), "no figures came with this answer"), (Turn(ttft_s=0.25), "TTFT 250 ms"),
        (
            Turn(ttft_s=0.25, prompt_tokens=1000, decode_tokens=24, prefill_tokens_per_s=512.3,
                 decode_tokens_per_s=43.14, context_tokens=8192, finish_reason="stop"),
            "TTFT 250 ms, prefill 512 tokens/s, decode 43.1 tokens/s, context 1,024 of 8,192",
        ),
        (Turn(prompt_tokens=1, decode_tokens=2, finish_reason="length"), "context 3, cut by the token limit"),
        (Turn(prompt_tokens=1, decode_tokens=6, context_tokens=8, finish_reason="length"),
         "context 7 of 8, the context is full"),
    ],
)  # fmt: skip
def test_an_answers_figures_are_told_as_far_as_they_are_known(turn: Turn, line: str) -> None:
    assert report.turn_line(turn) == line


def test_where_no_model_is_the_places_and_the_remedy_are_told() -> None:
    nothing = Findings(models=(), looked=("/m: empty", "/n: absent"), problems=("/p: no permission",))
    assert report.nowhere_lines(nothing) == (
        "no model found", "looked in /m: empty", "looked in /n: absent", "/p: no permission",
        "put a GGUF file there and start again, or name one: bercail up MODEL",
    )  # fmt: skip
    assert news_report.news_lines(news.ModelsFound(findings=nothing)) == report.nowhere_lines(nothing)


def test_the_demo_is_called_a_demo_and_the_way_to_a_real_model_is_told() -> None:
    demo = Findings(models=(FoundModel(id="bercail-demo", path="/d.gguf", source="demo", bytes=9),), looked=())
    lines = news_report.news_lines(news.ModelsFound(findings=demo))
    assert lines[-1] == news_report.demo_line()
    assert "knows only Bercail" in lines[-1]
    assert "bercail up path/to/model.gguf" in lines[-1]


def test_found_models_are_listed_up_to_eight() -> None:
    many = Findings(models=tuple(a_found(f"m{n}") for n in range(9)), looked=(), problems=("/p: odd",))
    first, second = news_report.news_lines(news.ModelsFound(findings=many))
    assert first == "models   9 models: m0, m1, m2, m3, m4, m5, m6, m7, ..."
    assert second.strip() == "/p: odd"


def test_damaged_models_are_listed_apart_with_the_reason() -> None:
    found = (a_found(damage=""), a_found("b", projector="/m/p"), a_found("c", damage="byte 7: cut"))
    sound, damaged = report.findings_sections(Findings(models=found, looked=()))
    assert [(row[0], row[3]) for row in sound.rows] == [("tiny", "-"), ("b", "yes")]
    assert damaged.rows == (("/m/c.gguf", "byte 7: cut"),)
    (alone,) = report.findings_sections(Findings(models=found[:1], looked=()))
    assert alone.title == "Models"


LINES = {
    news.Reconciled: "left by a killed server, ended: process 7",
    news.MachineProbed: "machine  Test CPU",
    news.ModelsFound: "models   1 model: tiny",
    news.Listening: "gateway  listening on http://127.0.0.1:8123",
    news.Waiting: "ready    5 models, 3 of them cannot be loaded; the first request for one loads it",
    news.ModelRead: "model    tiny: llama, 524 K parameters, F16, 2.00 MiB",
    news.Trying: "trying   llama.cpp, weights rearranged, ubatch 256",
    news.Warned: "note     careful",
    news.Planned: "plan     fits: ",
    news.CommandReady: "ready    tiny after 1.5 s, at 127.0.0.1:5800",
    news.Reloaded: "reload   start anew: a; gone: b, c",
    news.ContextKept: "kept     8,192 tokens that tiny had read",
    news.ContextRestored: "restored 8,192 tokens that tiny had read",
    news.LoadFailed: "failed   tiny: no memory",
    news.EngineDied: "died     tiny: killed by signal 9; starting it again in 2.0 s",
    news.Unloaded: "unloaded tiny",
    news.Stopping: "stopping: running requests may finish within 30.0 s",
    news.Stopped: "stopped, 2 requests were cut",
}


@pytest.mark.parametrize("item", EVERY_NEWS, ids=lambda item: type(item).__name__)
def test_every_step_is_told_in_a_line_or_shown_otherwise(item: news.News) -> None:
    lines = news_report.news_lines(item)
    if isinstance(item, news.Loading | news.Ready):
        assert lines == ()
    else:
        assert lines[0].startswith(LINES[type(item)])


def test_steps_say_the_same_thing_truthfully_in_other_cases() -> None:
    died = news.EngineDied(model_id="tiny", error="x", log_tail=tuple("abcdefghij"), retry_s=None)
    first, *tail = news_report.news_lines(died)
    assert first == "died     tiny: x; it is not started again unless asked for"
    assert [line.strip() for line in tail] == list("cdefghij")
    assert news_report.news_lines(news.Stopped(cut=0)) == ("stopped",)
    assert news_report.news_lines(news.Reloaded(changed=(), added=(), gone=())) == ("reload   nothing has changed",)
    assert news_report.news_lines(news.Reloaded(changed=(), added=(), gone=(), later=("server.port", "logLevel"))) == (
        "reload   no model has changed",
        "         counts from the next start: server.port, logLevel",
    )
    assert news_report.news_lines(news.Waiting(url="http://x", models=1, failed=0)) == (
        "ready    1 model; the first request for one loads it",
        "url      http://x",
    )
    named = news.Reloaded(changed=(), added=("b",), gone=(), altered=("other names, ttl of a", "profiles"))
    assert news_report.news_lines(named) == (
        "reload   new: b; changed: other names, ttl of a; profiles; no model starts anew",
    )
    assert news_report.news_lines(replace(named, changed=("a",), added=(), altered=("profiles",))) == (
        "reload   start anew: a; changed: profiles",
    )
    failed = news.LoadFailed(model_id="tiny", error="tiny could not be loaded: there is no program x")
    assert news_report.news_lines(failed) == ("failed   tiny: there is no program x",)
    assert news_report.news_lines(news.Stopped(cut=1)) == ("stopped, 1 request was cut",)


def test_a_ready_model_comes_with_a_line_to_try() -> None:
    ready = next(item for item in EVERY_NEWS if isinstance(item, news.Ready))
    rows = dict(line.split(maxsplit=1) for line in news_report.ready_lines(ready, "http://x"))
    assert rows["ready"] == "tiny after 2.5 s"
    assert rows["context"] == "8,192 tokens x 4 slots"
    assert rows["memory"].endswith(" planned, 300.0 MiB held now")
    assert rows["try"].startswith("curl http://x/v1/chat/completions")
    assert '"model":"tiny"' in rows["try"]
    embedding = replace(ready.plan, settings=replace(ready.plan.settings, embedding=True))
    lines = news_report.ready_lines(replace(ready, plan=embedding, resident_bytes=None), "http://x")
    assert any("/v1/embeddings" in line for line in lines)
    assert not any("held now" in line for line in lines)
    lines = news_report.ready_lines(replace(ready, chat=False), "http://x")
    assert any("/v1/completions" in line and '"prompt":' in line for line in lines)


@pytest.mark.parametrize("name", ["x'; echo hacked #", 'say "hi"', "$(id)", "é"])
def test_the_line_to_try_is_safe_to_paste_whatever_the_file_is_named(name: str) -> None:
    ready = next(item for item in EVERY_NEWS if isinstance(item, news.Ready))
    line = news_report.ready_lines(replace(ready, plan=replace(ready.plan, model_id=name)), "http://x")[-1]
    words = shlex.split(line)
    assert words[1:3] == ["curl", "http://x/v1/chat/completions"]
    assert json.loads(words[-1])["model"] == name
    assert len(words) == 7


def test_without_a_url_there_is_nothing_to_try() -> None:
    ready = next(item for item in EVERY_NEWS if isinstance(item, news.Ready))
    assert [line.split()[0] for line in news_report.ready_lines(ready, "")] == ["ready", "context", "memory", "engine"]


def test_a_check_says_where_the_plan_and_the_engine_differ() -> None:
    verdict = decide(a_machine(), a_model(), EngineOptions(context=4096))
    planned = {part.name: part.bytes for part in verdict.devices[0].parts}
    account = (
        Part(name="KV cache", bytes=planned["KV cache"] + 5000),
        Part(name="compute", bytes=planned["compute"] * 2),
        Part(name="output", bytes=planned["output"] // 2),
        Part(name="recurrent state", bytes=MIB),
        Part(name="margin", bytes=0),
        Part(name="nothing", bytes=0),
    )
    section = report.check_section(verdict, account)
    says = ["exact", "50.0% less", "100.0% more", "100.0% less", "more: the engine takes none"]
    assert [row[3] for row in section.rows] == says
    assert section.rows[3][:3] == ("recurrent state", "0 B", "1.00 MiB")


def test_a_check_of_an_embedding_model_leaves_out_what_the_engine_makes_later() -> None:
    verdict = decide(a_machine(), a_model(role=Role.EMBED), EngineOptions())
    section = report.check_section(verdict, (Part(name="compute", bytes=MIB), Part(name="output", bytes=MIB)))
    assert [row[0] for row in section.rows] == ["compute"]


def test_where_nothing_is_available_no_share_of_it_is_told() -> None:
    (first, *_) = report.plan_sections(decide(a_machine(0), a_model(), EngineOptions(context=1024)))
    assert {row[3] for row in first.rows} == {""}


def a_device(budget: int, **parts: int) -> Device:
    named = tuple(Part(name=name.replace("_", " "), bytes=size) for name, size in parts.items())
    return Device(name="cpu", budget_bytes=budget, parts=named)


def test_a_bar_shows_each_part_in_proportion_and_what_is_free() -> None:
    bar = report.device_bar(a_device(640, weights=320, KV_cache=160, prompt_cache=10))
    assert bar == "W" * 32 + "K" * 16 + "S" + "." * 15 + "|"


def test_a_bar_of_what_does_not_fit_goes_beyond_the_end_of_memory() -> None:
    assert report.device_bar(a_device(320, weights=640)) == "W" * 32 + "|" + "W" * 32
    assert report.device_bar(a_device(0)) == "|" + "." * 64


@given(machines(), models(), wishes)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_every_bar_is_as_long_as_any_other(machine: Machine, model: Model, wish: EngineOptions) -> None:
    (device,) = decide(machine, model, wish).devices
    assert len(report.device_bar(device)) == report.BAR_CELLS + 1


def test_gpus_are_told_as_far_as_they_are_known() -> None:
    known = a_gpu("CUDA0", name="NVIDIA X", capability="8.6", bandwidth_bytes_per_s=936e9)
    inside = a_gpu("", name="some GPU", shared=True)
    lines = report.machine_lines(replace(a_machine(), gpus=(known, inside)))
    assert lines[2] == "CUDA0: NVIDIA X, 8.6: 7.80 GiB of 8.00 GiB available, reads 936.0 GB/s by its data sheet"
    assert lines[3] == "some GPU: 7.80 GiB of 8.00 GiB of main memory available"
