"""The text of one file: the settings in it, and the configuration beside them."""

from collections.abc import Mapping
from dataclasses import dataclass

from bercail.core.configuration import Configuration
from bercail.core.configuring import read_configuration
from bercail.core.macros import with_environment
from bercail.store.settings_file import read_settings
from bercail.store.yaml_tree import parse_tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a file holds.

    Attributes:
        settings: values by key, as far as they are set.
        store_line: where ``store`` stands, for what only a look at the disk can tell of it.
    """

    settings: Mapping[str, object]
    configuration: Configuration
    store_line: int


def read_contents(text: str, *, origin: str, environment: Mapping[str, str]) -> Contents:
    """What the text of a file holds, whether it is ours or llama-swap's.

    Args:
        text: of the whole file.
        origin: the file, as errors name it.
        environment: what ``${env.NAME}`` is read from.

    Raises:
        SettingsError: it is no YAML, or something in it is wrong; tells the line.
    """
    root = parse_tree(with_environment(text, environment, origin), origin)
    return Contents(
        settings=read_settings(root, origin=origin),
        configuration=read_configuration(root, origin),
        store_line=root.line_of("store"),
    )
