"""The configurations that the guide shows are read."""

import re
from pathlib import Path

from bercail.core.configuration import Configuration
from bercail.core.declared import ModelFile
from bercail.core.matrix import Matrix
from bercail.store.contents import read_contents

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "configuration.md"


def read(text: str) -> Configuration:
    return read_contents(text, origin="guide", environment={"BERCAIL_KEY": "key"}).configuration


def test_every_example_of_the_guide_is_read() -> None:
    least, models, macros, groups, matrix, profiles, side = re.findall(
        r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL
    )
    assert [model.source for model in read(least).models] == [
        ModelFile(path="/srv/models/small.gguf"), ModelFile(path="/srv/models/large.gguf")
    ]  # fmt: skip
    assert [model.id for model in read(models).models] == ["qwen", "images", "far"]
    named = read(macros)
    assert named.gateway.api_keys == ("key",)
    assert [model.source.argv[-1] for model in named.models] == [  # type: ignore[union-attr] # commands
        "/srv/models/a.gguf", "/mnt/models/b.gguf"
    ]  # fmt: skip
    grouped = read(models + groups).rule
    assert grouped is not None
    assert grouped.eviction_for("qwen", {"images", "far"}) == set()
    sets = read(models + matrix).rule
    assert isinstance(sets, Matrix)
    assert sets.eviction_for("qwen", {"images", "far"}) == {"images"}
    assert read(models + profiles).profiles[0].pins == {"gpt-4o": "qwen", "images": None}
    [rule] = read(models + side).side_rules
    assert (rule.models, rule.clients) == (("qwen",), ("open-webui",))
