import json
from dataclasses import replace

from bercail.core.build import Recipe, Target
from bercail.core.document import builds_document, comparison_document
from bercail.core.engine import EMBEDDED, Make, Offer
from bercail.core.engine_report import (
    builds_section,
    devices_sections,
    offers_section,
    quality_line,
    settings_line,
    settings_sections,
    trials_line,
    trials_section,
)
from bercail.core.model import Format
from bercail.core.options import PURPOSES
from bercail.core.pace import Joint, Timing
from bercail.core.search import Tried
from bercail.core.trial import Comparison, Trial, refused
from bercail.core.units import GIB
from fakes.models import a_build, a_gpu

NATIVE = Offer(name="llama.cpp", id="b1-cpu-native-1", make=Make.NATIVE)


def a_trial(offer: Offer, request_s: float, *, repack: bool = True, resident: int | None = GIB) -> Trial:
    near = Timing(depth_tokens=0, prompt_tokens=100, prefill_s=2.0, decode_tokens=10, decode_s=1.0)
    far = Timing(depth_tokens=100, prompt_tokens=100, prefill_s=4.0, decode_tokens=10, decode_s=2.0)
    return Trial(
        offer=offer, repack=repack, timings=(near, far, near), ready_s=1.5, resident_bytes=resident,
        planned_bytes=GIB, request_s=request_s,
    )  # fmt: skip


TRIALS = (
    a_trial(NATIVE, 2.0, repack=False), a_trial(EMBEDDED, 5.0, resident=None),
    refused(EMBEDDED, repack=False, why="not enough memory"),
)  # fmt: skip


def test_a_comparison_shows_what_was_measured_and_what_failed() -> None:
    section = trials_section(TRIALS, PURPOSES["coding-agent"])
    assert section.header[-1] == "8,192 in, 256 out"
    first, second, third = section.rows
    assert first == ("llama.cpp (b1-cpu-native-1)", "as they are", "50.0 tokens/s", "10.0 tokens/s", "1.5 s",
                     "1.00 GiB", "2.0 s")  # fmt: skip
    assert second[1] == "rearranged"
    assert second[5] == "?"
    assert third[-1] == "not enough memory"


def test_work_that_comes_at_once_is_shown_as_such() -> None:
    rows = (Joint(clients=8, prompt_tokens=32, decode_tokens=18, seconds=seconds) for seconds in (4.0, 8.0, 5.0))
    trial = replace(a_trial(NATIVE, 20.0), joint=tuple(rows))
    section = trials_section((trial, *TRIALS[2:]), PURPOSES["batch"])
    assert section.header[4] == "8 at once"
    assert section.header[-1] == "8 x 256 in, 128 out"
    assert section.rows[0][4] == "80.0 tokens/s"
    assert {len(row) for row in section.rows} == {len(section.header)}


def test_the_winner_is_named() -> None:
    assert trials_line(TRIALS).startswith("llama.cpp (b1-cpu-native-1) wins with weights as they are: 2.50 times")
    assert "wins with weights rearranged" in trials_line((a_trial(NATIVE, 1.0), a_trial(EMBEDDED, 2.0)))
    library = Offer(name="openvino", id="openvino", make=Make.LIBRARY)
    mixed = (a_trial(library, 1.0, repack=False), a_trial(EMBEDDED, 2.0))
    assert "wins with weights in types of its own" in trials_line(mixed)
    assert "It lacks tools and logprobs: `bercail engine use openvino`" in trials_line(mixed)
    assert trials_section(mixed, PURPOSES["chat"]).rows[0][1] == "in types of its own"
    even = trials_line((a_trial(NATIVE, 1.0), a_trial(EMBEDDED, 1.05)))
    first = "llama.cpp (b1-cpu-native-1) with weights rearranged"
    assert even == f"no clear difference: {first} and the next are within 10 %"
    assert "the only one that could be measured" in trials_line(TRIALS[1:])


def test_speeds_of_converted_weights_are_not_compared_in_silence() -> None:
    library = Offer(name="openvino", id="openvino", make=Make.LIBRARY)
    told = replace(a_trial(library, 9.0), quantization="Q4_K_M", precision="bf16")
    for trials in ((a_trial(NATIVE, 2.0), told), (told, a_trial(NATIVE, 20.0))):
        assert quality_line(trials) == (
            "not one class of quality: openvino (which computes in bf16) converts the file's Q4_K_M into types of its "
            "own; compare answers before speeds"
        )
    assert quality_line(TRIALS) == ""
    assert quality_line((told,)) == ""
    assert quality_line((a_trial(NATIVE, 2.0), refused(library, repack=False, why="no"))) == ""


def test_a_comparison_as_json() -> None:
    document = comparison_document("m", Comparison(trials=TRIALS))
    assert document["schema"] == "bercail.comparison/1"
    rows = document["trials"]
    assert isinstance(rows, list)
    assert rows[0] == {
        "engine": "llama.cpp", "id": NATIVE.id, "make": "native", "repack": False, "quantization": "",
        "precision": "", "prefill_tokens_per_s": 50.0,
        "decode_tokens_per_s": 10.0, "joint_tokens_per_s": None, "ready_s": 1.5, "resident_bytes": GIB,
        "planned_bytes": GIB, "request_s": 2.0, "failure": "",
    }  # fmt: skip
    last = rows[2]
    assert isinstance(last, dict)
    assert last["prefill_tokens_per_s"] == 0.0


TRIED = (
    Tried(setting="threads", value=4, instead=4, because="as asked"),
    Tried(setting="ubatch", value=256, instead=128, ratio=1.254, loads=2, taken=True, because="faster"),
    Tried(setting="ubatch", value=512, instead=128, loads=1, because="does not fit"),
    Tried(setting="kv_type", value="q8_0", instead="f16", ratio=1.2, loads=2, because="other quality"),
)


def test_other_settings_are_shown_with_what_becomes_of_them() -> None:
    (section,) = settings_sections(Comparison(trials=TRIALS, searched=NATIVE, tried=TRIED))
    assert section.title == "Other settings of llama.cpp (b1-cpu-native-1)"
    assert section.header == ("setting", "planned", "tried", "times as fast", "loads", "taken", "why")
    assert section.rows == (
        ("threads", "4", "", "", "", "no", "as asked"),
        ("ubatch", "128", "256", "1.25", "2", "yes", "faster"),
        ("ubatch", "128", "512", "?", "1", "no", "does not fit"),
        ("kv_type", "f16", "q8_0", "1.20", "2", "no", "other quality"),
    )
    assert settings_sections(Comparison(trials=TRIALS)) == ()
    assert settings_line(TRIED, "chat") == "plans for chat take ubatch 256 from now on, unless you say otherwise"
    none = "no other setting is faster by more than the noise: the planned ones stay"
    assert settings_line(TRIED[2:], "chat") == none
    assert settings_line(TRIED[3:], "chat") == settings_line((), "chat") == settings_line(TRIED[:1], "chat") == ""


def test_other_settings_are_part_of_the_document() -> None:
    document = comparison_document("m", Comparison(trials=TRIALS, searched=NATIVE, tried=TRIED))
    assert document["settings_of"] == NATIVE.id
    rows = json.loads(json.dumps(document["settings"]))
    assert rows[1] == {
        "setting": "ubatch", "value": 256, "instead": 128, "ratio": 1.254, "loads": 2, "taken": True,
        "because": "faster",
    }  # fmt: skip
    assert comparison_document("m", Comparison(trials=TRIALS))["settings"] == []


def test_builds_as_a_table_and_as_json() -> None:
    builds = (a_build(), a_build("b1-cuda-portable-2", recipe=Recipe(target=Target.CUDA, portable=True)))
    rows = builds_section(builds).rows
    assert rows[0] == ("b1-cpu-native-1", "this processor", "3.00 MiB", "1.5 min", "c++ 1", "/e/b1-cpu-native-1")
    assert rows[1][1] == "any processor"
    document = builds_document(builds)
    assert document["schema"] == "bercail.engines/1"
    engines = document["engines"]
    assert isinstance(engines, list)
    assert [row["id"] for row in engines] == [build.id for build in builds]


def test_engines_at_hand_are_listed_with_what_they_read_and_lack() -> None:
    library = Offer(
        name="openvino",
        id="openvino",
        make=Make.LIBRARY,
        reads=(Format.GGUF, Format.OPENVINO),
        lacks=("tools", "n"),
        batches=False,
    )
    rows = offers_section(((EMBEDDED, "b11549"), (library, "2026.4"))).rows
    assert rows == (
        ("embedded", "b11549", "gguf", "in one batch", "nothing"),
        ("openvino", "2026.4", "gguf, openvino", "in turns", "tools, n"),
    )
    told = builds_document((), ((library, "2026.4"),))
    assert json.loads(json.dumps(told))["at_hand"][0]["lacks"] == ["tools", "n"]
    assert told["at_hand"][0]["batches"] is False  # type: ignore[index, call-overload]


def test_what_engines_see_is_listed_with_what_is_wrong() -> None:
    seeing = replace(NATIVE, gpus=(a_gpu(capability="8.6"), a_gpu("CUDA1")))
    blind = replace(NATIVE, id="b1-vulkan", trouble="sees no GPU")
    (section,) = devices_sections((EMBEDDED, seeing, blind))
    assert section.rows == (
        (NATIVE.id, "CUDA0", "card", "8.6", "8.00 GiB", "7.80 GiB"),
        (NATIVE.id, "CUDA1", "card", "?", "8.00 GiB", "7.80 GiB"),
        ("b1-vulkan", "none", "sees no GPU", "", "", ""),
    )
    assert devices_sections((EMBEDDED,)) == ()


def test_what_ran_on_gpus_has_no_order_of_weights() -> None:
    on_gpus = a_trial(replace(NATIVE, gpus=(a_gpu(),)), 1.0)
    assert trials_section((on_gpus,), PURPOSES["chat"]).rows[0][1] == "on GPUs"
