"""The texts of the files that hold one configuration: the settings in them, and what is declared beside them."""

from collections.abc import Mapping
from dataclasses import dataclass

from bercail.core.configuration import Configuration
from bercail.core.configuring import read_configuration
from bercail.core.macros import with_environment
from bercail.core.merging import counted_on, merged
from bercail.core.tree import Fields, Origin, Reading, Texts
from bercail.store.settings_file import read_settings
from bercail.store.yaml_tree import parse_tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What files hold.

    Attributes:
        settings: values by key, as far as they are set.
        store_place: where ``store`` stands, for what only a look at the disk can tell of it.
        store_file: the file that it stands in.
    """

    settings: Mapping[str, object]
    configuration: Configuration
    store_place: str
    store_file: str


def read_contents(text: str, *, origin: str, environment: Mapping[str, str]) -> Contents:
    """What the text of a file holds, whether it is ours or llama-swap's; as ``read_all`` of that one."""
    return read_all(((origin, text),), environment)


def read_all(texts: Texts, environment: Mapping[str, str]) -> Contents:
    """What files hold together.

    Args:
        texts: each file, as errors name it, with its whole text; those that come later add to those before.
        environment: what ``${env.NAME}`` is read from.

    Raises:
        SettingsError: one is no YAML, something in it is wrong, or they contradict each other; tells the line.
    """
    files, trees, before = [], [], 0
    for name, text in texts:
        files.append((name, before))
        tree = counted_on(parse_tree(with_environment(text, environment, name), name), before)
        assert isinstance(tree, Fields)
        trees.append(tree)
        before += text.count("\n") + 1
    origin = Origin(files=tuple(files))
    root = merged(trees, origin)
    store = root.line_of("store")
    reading = Reading(origin=origin)
    settings = reading.attempt(lambda: read_settings(root, origin=origin), 1)
    configuration = reading.attempt(lambda: read_configuration(root, origin), 1)
    reading.settle()
    assert settings is not None
    assert configuration is not None
    return Contents(
        settings=settings,
        configuration=configuration,
        store_place=origin.place(store),
        store_file=origin.file(store),
    )
