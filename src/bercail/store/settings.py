"""Settings: defaults, then the file, then the environment, then the command line; and the file's configuration."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bercail.core.configuration import Configuration, Loaded
from bercail.core.errors import SettingsError
from bercail.core.option import Kind, read_value
from bercail.core.options import Settings, every_option, unknown_key
from bercail.core.quotes import told
from bercail.core.tree import Texts

FILE_NAME = "bercail.yaml"
"""The settings file in the config folder."""

PREFIX = "BERCAIL_"
OTHER_VARIABLES = ("BERCAIL_CONFIG", "BERCAIL_KEY", "BERCAIL_SHARED")
"""Variables with our prefix that are no settings: the settings file, the API key for a chat, material for tests."""

if TYPE_CHECKING:
    from bercail.store.contents import Contents

SUFFIXES = (".yml", ".yaml")
_LONGEST_BYTES = 1024 * 1024


def load_settings(
    *,
    file: Path | None,
    folder: Path | None = None,
    default_file: Path,
    environment: Mapping[str, str],
    given: Mapping[str, object],
    home: Path,
) -> Loaded:
    """The settings in force, and the configuration that stands beside them.

    Args:
        file: named on the command line; it must exist. Next comes ``BERCAIL_CONFIG``, which must exist, too.
        folder: named on the command line: the files in it add to ``file``, or stand for it.
        default_file: read if it exists and no other is named.
        environment: every ``BERCAIL_*`` in it must be known; ``${env.NAME}`` in the file is read from it.
        given: values of the command line by key, such as ``server.port``; None is not given.
        home: what ``~/`` stands for in folders: no shell has replaced it in a file, nor after ``=``.

    Raises:
        SettingsError: a file or variable is wrong; tells the place, and the nearest known name of an unknown one.
    """
    written: Mapping[str, object] = {}
    configuration = Configuration()
    variable = environment.get("BERCAIL_CONFIG")
    named = file or (Path(variable) if variable and folder is None else None)
    if named or folder or read_text(default_file, must_exist=False) is not None:
        from bercail.store.contents import read_all  # a YAML parser takes a while to load

        contents = read_all(gather(named if named or folder else default_file, folder), environment)
        written, configuration = contents.settings, with_places(contents, home)
    return Loaded(settings=in_force(written, environment, given, home), configuration=configuration)


def in_force(
    written: Mapping[str, object], environment: Mapping[str, str], given: Mapping[str, object], home: Path
) -> Settings:
    """The settings that files, the environment and the command line make together; all as ``load_settings`` has it.

    Raises:
        SettingsError: a variable or a value of the command line is wrong.
    """
    values = {**written, **read_environment(environment), **read_given(given)}
    for spec in every_option():
        folders = values.get(spec.key)
        if spec.kind is Kind.PATHS and isinstance(folders, tuple):
            values[spec.key] = tuple(_expand(str(folder), home) for folder in folders)
    return apply(values)


def apply(values: Mapping[str, object]) -> Settings:
    """The default settings with ``values`` by key in their places."""
    settings = Settings()
    groups: dict[str, object] = {}
    for group in fields(settings):
        prefix = f"{group.name}."
        own = {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
        groups[group.name] = replace(getattr(settings, group.name), **own)
    return replace(settings, **groups)  # type: ignore[arg-type] # each group is of its field's own type


def gather(file: Path | None, folder: Path | None) -> Texts:
    """Every file that is read as one, with its text: ``file``, then those of ``folder`` by their names.

    Of a folder, which ``file`` may be as well, the files that end in ``.yml`` or ``.yaml`` count, not those below it.

    Raises:
        SettingsError: one cannot be read, there is none, or ``file`` is one of the folder's.
    """
    file, folder = apart(file, folder)
    inside = _inside(folder) if folder is not None else ()
    if file is not None and any(file.resolve() == other.resolve() for other in inside):
        raise SettingsError(f"{file} lies in {folder}, whose files are all read", hint="name it once: leave it out")
    texts = [(str(one), read_text(one, must_exist=True) or "") for one in (*((file,) if file else ()), *inside)]
    if not texts:
        raise SettingsError(f"the folder {folder} holds no configuration", hint="put a file there that ends in .yaml")
    return tuple(texts)


def with_places(contents: "Contents", home: Path) -> Configuration:
    """The configuration of files, with the whole path of the file that keeps the activity."""
    found, store = contents.configuration, contents.configuration.gateway.store_path
    if not store:
        return found
    return replace(found, gateway=replace(found.gateway, store_path=str(placed(store, contents.store_file, home))))


def placed(path: str, file: str, home: Path) -> Path:
    """A path that ``file`` names: it may begin where ``file`` lies, or at home (``~/``)."""
    own = home / path[2:] if path.startswith("~/") else Path(path)
    base = Path(file).absolute()
    return (base if base.is_dir() else base.parent) / own


def apart(file: Path | None, folder: Path | None) -> tuple[Path | None, Path | None]:
    """The same two, with what was named as a file where it belongs if it is a folder."""
    return (None, file) if folder is None and file is not None and file.is_dir() else (file, folder)


def _inside(folder: Path) -> tuple[Path, ...]:
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise SettingsError(f"the folder {folder} cannot be read: {error.strerror}") from error
    return tuple(one for one in found if one.suffix in SUFFIXES and one.is_file())


def read_text(path: Path, *, must_exist: bool) -> str | None:
    """The text of a settings file; None if it need not exist and does not.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST_BYTES + 1)
    except FileNotFoundError as error:
        if not must_exist:
            return None
        hint = told(str(path), "check its name; --config and BERCAIL_CONFIG name one, and may be left out")
        raise SettingsError(f"the settings file {path} does not exist", hint=hint, code="no_settings_file") from error
    except OSError as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error.strerror}") from error
    if len(data) > _LONGEST_BYTES:
        raise SettingsError(f"the settings file {path} is longer than 1 MiB", hint="is this the right file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path}, line {line}: this is not UTF-8 text", hint="save it as UTF-8") from error


def read_environment(environment: Mapping[str, str]) -> dict[str, object]:
    """Values by key in the environment.

    Raises:
        SettingsError: a variable of ours is unknown or its value is wrong.
    """
    known = {spec.variable: spec for spec in every_option()}
    values: dict[str, object] = {}
    for name in sorted(environment):
        if not name.startswith(PREFIX) or name in OTHER_VARIABLES:
            continue
        if name not in known:
            raise unknown_key(name, (*known, *OTHER_VARIABLES), origin="environment")
        spec = known[name]
        if not environment[name].strip() and spec.kind is not Kind.PATHS:
            raise SettingsError(f"environment: {name} is empty", hint=f"unset it, or give it a value: {spec.help}")
        values[spec.key] = read_value(spec, environment[name], origin=f"environment: {name}")
    return values


def read_given(given: Mapping[str, object]) -> dict[str, object]:
    """Values by key from the command line, without those not given.

    Raises:
        SettingsError: a key is unknown or a value is wrong.
    """
    known = {spec.key: spec for spec in every_option()}
    values: dict[str, object] = {}
    for key, raw in given.items():
        if key not in known:
            raise unknown_key(key, tuple(known), origin="command line")
        if raw is not None:
            values[key] = read_value(known[key], raw, origin=known[key].flag)
    return values


def _expand(folder: str, home: Path) -> str:
    return str(home / folder[2:]) if folder == "~" or folder.startswith("~/") else folder
