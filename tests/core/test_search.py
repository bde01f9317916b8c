"""Which settings are tried, in which order, and that noise is never taken for a win."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.machine import Cpu
from bercail.core.options import EngineOptions
from bercail.core.search import CACHE, CLEARLY, Axis, Base, Load, Tried, Value, axes, gain_of, next_value, now_at, tried
from bercail.core.tuning import Gain, Setting
from fakes.models import a_machine, some_settings

AXIS = Axis(setting="ubatch", instead=128, values=(256, 512))


def searched(axis: Axis, times: dict[Value, list[float | None]]) -> tuple[list[Value], tuple[Tried, ...]]:
    """The order of loads, and what comes of them, where each load takes the next of its value's times."""
    left = {value: list(each) for value, each in times.items()}
    loads: list[Load] = []
    while (value := next_value(axis, loads)) is not None:
        seconds = left[value].pop(0)
        loads.append(Load(value=value, seconds=seconds, failure="" if seconds else "does not fit"))
    return [load.value for load in loads], tried(axis, loads)


@pytest.mark.parametrize(
    ("times", "order", "taken", "words"),
    [
        # clearly faster, twice in turns with the default
        ({128: [10, 10.2], 256: [9.9], 512: [8, 8.1]}, [128, 256, 512, 128, 512], 512, "faster in every load"),
        # two are faster: the better one is taken
        ({128: [10, 10], 256: [8], 512: [7, 7]}, [128, 256, 512, 128, 512], 512, "faster in every load"),
        # nothing looks faster: nothing is loaded twice
        ({128: [10], 256: [12], 512: [9.8]}, [128, 256, 512], None, "no clear difference"),
        # the default was slow by chance, and is as fast when its turn comes again
        ({128: [10, 8], 256: [10], 512: [8.5]}, [128, 256, 512, 128], None, "within the noise"),
        # the other was fast by chance
        ({128: [10, 10], 256: [10], 512: [8, 10.1]}, [128, 256, 512, 128, 512], None, "within the noise"),
        # both of its loads are ahead, by less than the noise
        ({128: [10, 9.7], 256: [10], 512: [9.5, 9.6]}, [128, 256, 512, 128, 512], None, "within the noise"),
        # what does not fit is left in words, and the others go on
        ({128: [10, 10], 256: [8, 8], 512: [None]}, [128, 256, 512, 128, 256], 256, "does not fit"),
        # the default fails when its turn comes again
        (
            {128: [10, None], 256: [10], 512: [8]},
            [128, 256, 512, 128],
            None,
            "faster once, and the default was not timed again: does not fit",
        ),
        ({128: [10, 10], 256: [10], 512: [8, None]}, [128, 256, 512, 128, 512], None, "does not fit"),
    ],
)
def test_a_setting_is_taken_only_if_it_is_faster_beyond_the_noise(
    times: dict[Value, list[float | None]], order: list[Value], taken: int | None, words: str
) -> None:
    found, rows = searched(AXIS, times)
    assert found == order
    assert [row.value for row in rows if row.taken] == ([taken] if taken else [])
    assert words in rows[-1].because
    gain = gain_of(rows)
    assert (gain.value if gain else None) == taken


def test_every_row_says_how_it_compares() -> None:
    rows = searched(Axis(setting="ubatch", instead=128, values=(256, 512, 1024)),
                    {128: [10, 10], 256: [9], 512: [8, 8], 1024: [12]})[1]  # fmt: skip
    assert [(row.ratio and round(row.ratio, 2), row.loads, row.because) for row in rows] == [
        (1.11, 1, "another is faster"),
        (1.25, 2, "faster in every load, in turns with the default"),
        (0.83, 1, "slower"),
    ]
    assert gain_of(rows) == Gain(setting=Setting.UBATCH, value=512, instead=128, ratio=1.25)


def test_without_the_default_nothing_is_said() -> None:
    order, rows = searched(AXIS, {128: [None]})
    assert order == [128]
    assert {row.because for row in rows} == {"the default could not be timed: does not fit"}
    assert [row.value for row in rows] == [256, 512]


def test_a_smaller_cache_is_measured_and_never_taken() -> None:
    axis = Axis(setting=CACHE, instead="f16", values=("q8_0",))
    order, (row,) = searched(axis, {"f16": [10, 10], "q8_0": [5, 5]})
    assert order == ["f16", "q8_0", "f16", "q8_0"]
    assert (row.ratio, row.taken) == (2.0, False)
    own = "other quality, so never taken by itself: --kv q8_0"
    assert row.because == f"faster in every load, in turns with the default; {own}"
    assert searched(axis, {"f16": [10], "q8_0": [10]})[1][0].because == f"no clear difference; {own}"
    assert gain_of((row,)) is None


@given(st.data())
def test_loads_that_differ_by_less_than_the_noise_change_nothing(data: st.DataObject) -> None:
    times = st.floats(10, 10 * CLEARLY - 0.001)
    _, rows = searched(AXIS, {value: [data.draw(times), data.draw(times)] for value in (128, 256, 512)})
    assert not any(row.taken for row in rows)


CPU = a_machine().cpu


def a_base(cpu: Cpu = CPU, **changes: object) -> Base:
    plain = Base(
        cpu=cpu,
        settings=some_settings(ubatch_tokens=128, batch_tokens=128),
        wish=EngineOptions(),
        reading=0.5,
        reach_tokens=600,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def values(base: Base) -> dict[str, tuple[Value, ...] | str]:
    return {axis.setting: axis.values or axis.because for axis in axes(base, settings=True, lossy=True)}


def test_what_can_matter_on_this_machine_is_tried() -> None:
    assert values(a_base()) == {
        "threads": (3, 8), "threads_batch": (3, 8), "ubatch": (256,), "kv_type": ("q8_0",),
    }  # fmt: skip
    agent = a_base(wish=EngineOptions(purpose="coding-agent"))
    assert values(agent)["ubatch"] == (256, 512)
    assert values(replace(agent, reach_tokens=1024))["ubatch"] == (256, 512, 1024)
    assert axes(a_base(), settings=False, lossy=False) == ()


@pytest.mark.parametrize(
    ("cpu", "threads", "decode", "prefill"),
    [
        ({"logical_cpus": (0,), "physical_cores": 1}, 1, "no other value can matter here", "no other value"),
        ({"logical_cpus": (0, 1), "physical_cores": 2}, 2, (1,), (1,)),
        ({"logical_cpus": (0, 1), "physical_cores": 1}, 1, (2,), (2,)),
        ({"quota_cpus": 2.5}, 2, (1,), (1,)),
        ({"quota_cpus": 0.5}, 1, "no other value can matter here", "no other value"),
        ({"logical_cpus": tuple(range(32)), "physical_cores": 16}, 16, (15, 8, 32), (15, 32)),
        ({"logical_cpus": tuple(range(16)), "physical_cores": 12, "performance_cores": 4}, 4, (3, 12, 16), (3, 12, 16)),
        ({"physical_cores": None}, 8, (7, 4), (7,)),
    ],
)
def test_threads_follow_the_processor(cpu: dict[str, object], threads: int, decode: object, prefill: object) -> None:
    settings = some_settings(threads=threads, threads_batch=threads)
    found = values(a_base(replace(CPU, **cpu), settings=settings))  # type: ignore[arg-type]
    assert found["threads"] == decode
    if isinstance(prefill, str):
        assert prefill in found["threads_batch"]
    else:
        assert found["threads_batch"] == prefill


def test_prefill_may_do_without_slow_cores() -> None:
    cpu = replace(CPU, logical_cpus=tuple(range(12)), physical_cores=12, performance_cores=4)
    settings = some_settings(threads=4, threads_batch=12)
    assert values(a_base(cpu, settings=settings))["threads_batch"] == (11, 4)


def test_what_the_user_has_set_is_not_tried() -> None:
    fixed = values(a_base(wish=EngineOptions(threads=3, batch=512, kv="q4_0")))
    assert set(fixed.values()) == {"as asked"}
    assert values(a_base(wish=EngineOptions(ubatch=64)))["ubatch"] == "as asked"
    partly = values(a_base(wish=EngineOptions(threads_batch=3)))
    assert (partly["threads"], partly["threads_batch"]) == ((3, 8), "as asked")


def test_what_hardly_weighs_is_not_tried() -> None:
    answers = values(a_base(reading=0.12))
    assert answers["ubatch"] == answers["threads_batch"] == "prompts are 12% of the usual request's time"
    assert answers["threads"] == (3, 8)
    assert values(a_base(reading=0.9))["threads"] == "answers are 10% of the usual request's time"
    together = values(a_base(reading=0.12, wish=EngineOptions(purpose="batch")))
    assert together["threads"] == "several answers at once are generated with the threads for prefill"
    assert together["threads_batch"] == (3, 8)


def test_a_library_and_gpus_have_fewer_settings() -> None:
    library = values(a_base(library=True, reading=0.1))
    assert library["threads_batch"] == (3, 8)
    assert library["ubatch"] == library["threads"] == "this engine cannot be told it"
    assert "in llama.cpp alone" in library["kv_type"]
    card = values(a_base(on_gpus=True, settings=some_settings(), wish=EngineOptions(purpose="coding-agent")))
    assert card["threads"] == card["threads_batch"] == "all layers are on GPUs"
    assert card["ubatch"] == (128, 256)
    assert "flash attention" in values(a_base(settings=some_settings(flash_attention=False)))["kv_type"]


def test_why_a_setting_is_not_tried_is_a_row() -> None:
    axis = Axis(setting="threads", instead=4, because="as asked")
    assert next_value(axis, ()) is None
    (row,) = tried(axis, ())
    assert (row.value, row.loads, row.taken, row.because) == (4, 0, False, "as asked")


def test_what_was_taken_is_the_next_default() -> None:
    axis = Axis(setting="threads_batch", instead=4, values=(3,))
    assert now_at(axis, some_settings(threads_batch=2)).instead == 2
    cache = Axis(setting=CACHE, instead="f16", values=("q8_0",))
    assert now_at(cache, some_settings()) == cache
