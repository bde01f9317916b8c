"""Contexts on disk: their names, and which go."""

from dataclasses import replace

from bercail.core.keepsake import Kept, name_of, too_many
from bercail.core.launch import LaunchSpec
from fakes.models import some_settings

SPEC = LaunchSpec(model_id="m", model_path="/m.gguf", weights_bytes=1, settings=some_settings())


def test_a_name_is_the_same_only_where_the_engine_can_read_it_back() -> None:
    name = name_of(SPEC, "llama.cpp-b1", 5, 0)
    assert name == name_of(replace(SPEC, model_id="other"), "llama.cpp-b1", 5, 0)
    others = {
        name_of(SPEC, "llama.cpp-b2", 5, 0),
        name_of(SPEC, "llama.cpp-b1", 6, 0),
        name_of(SPEC, "llama.cpp-b1", 5, 1),
        name_of(replace(SPEC, model_path="/n.gguf"), "llama.cpp-b1", 5, 0),
        name_of(replace(SPEC, settings=some_settings(kv_type_k="q8_0")), "llama.cpp-b1", 5, 0),
    }
    assert name not in others
    assert len(others) == 5
    assert name.endswith("-0.slot")


def test_the_longest_unused_go_first() -> None:
    kept = [Kept(name=name, bytes=10, used_s=used_s) for name, used_s in (("new", 3.0), ("old", 1.0), ("middle", 2.0))]
    assert too_many(kept, 30) == ()
    assert too_many(kept, 20) == ("old",)
    assert too_many(kept, 19) == ("old", "middle")
    assert too_many(kept, 0) == ("old", "middle", "new")
