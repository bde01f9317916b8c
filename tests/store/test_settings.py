from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.errors import SettingsError
from bercail.core.option import Option
from bercail.core.options import Settings, every_option
from bercail.core.units import GIB, MIB
from bercail.store import load_settings
from bercail.store.contents import read_contents
from bercail.store.settings import read_environment


def load(
    tmp_path: Path,
    text: str | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    file = tmp_path / "bercail.yaml"
    if text is not None:
        file.write_text(text)
    home = Path("/home/ada")
    loaded = load_settings(
        file=None, default_file=file, environment=environment or {}, given=overrides or {}, home=home
    )
    return loaded.settings


def refusal(text: str) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        read_contents(text, origin="bercail.yaml", environment={})
    return caught.value


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert load(tmp_path) == Settings()


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "server:\n", "\ufeffserver:\n"])
def test_an_empty_file_changes_nothing(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text) == Settings()


def test_values_are_read_in_the_notation_of_people(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "server:\n  port: 9000\n  body_limit: 32 MiB\n  drain: 1m\n"
        "library:\n  folders: [/data/models, ~/gguf, 'C:/models']\n"
        "engine:\n  context: 32k\n  mmap: no\n  kv_type_k: q8_0\n  memory: 1.5 GiB\n",
    )
    assert settings.server.port == 9000
    assert settings.server.body_limit == 32 * MIB
    assert settings.server.drain == 60.0
    assert settings.library.folders == ("/data/models", "/home/ada/gguf", "C:/models")
    assert settings.engine.context == 32768
    assert settings.engine.mmap is False
    assert settings.engine.kv_type_k == "q8_0"
    assert settings.engine.memory == 3 * GIB // 2


def test_a_full_name_is_as_good_as_a_group(tmp_path: Path) -> None:
    assert load(tmp_path, "server.port: 9000\n").server.port == 9000


def test_no_value_leaves_the_choice_to_the_plan(tmp_path: Path) -> None:
    assert load(tmp_path, "engine:\n  slots:\n").engine.slots is None


def test_the_command_line_beats_the_environment_beats_the_file(tmp_path: Path) -> None:
    text = "server:\n  port: 1001\n  host: file\nengine:\n  slots: 1\n"
    environment = {"BERCAIL_SERVER_PORT": "1002", "BERCAIL_SERVER_HOST": "environment"}
    settings = load(tmp_path, text, environment, {"server.port": 1003, "engine.slots": None})
    assert settings.server.port == 1003
    assert settings.server.host == "environment"
    assert settings.engine.slots == 1


def test_typed_values_of_a_command_line_pass_unchanged(tmp_path: Path) -> None:
    overrides = {"library.folders": ("/a:b",), "engine.mmap": True, "server.drain": 2.5, "engine.memory": GIB}
    settings = load(tmp_path, overrides=overrides)
    assert settings.library.folders == ("/a:b",)
    assert settings.engine.mmap is True
    assert settings.server.drain == 2.5
    assert settings.engine.memory == GIB


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("server:\n  prot: 1\n", "bercail.yaml, line 2: unknown setting 'server.prot'", "server.port"),
        ("serve:\n  port: 1\n", "bercail.yaml, line 1: unknown setting 'serve'", "server"),
        ("server.prt: 1\n", "line 1: unknown setting 'server.prt'", "server.port"),
        ("server:\n  port: many\n", "line 2: server.port: 'many' is not a count", "Port"),
        ("server:\n  port: 70000\n", "line 2: server.port: 70000 is more than 65535", "Port"),
        ("server:\n  port: [1, 2]\n", "line 2: server.port needs a single value", "Port"),
        ("server:\n  port:\n    deep: 1\n", "line 3: server.port needs a single value", "Port"),
        (
            "server:\n  port: !!python/name:os.system x\n",
            "line 2: the tag tag:yaml.org,2002:python/name:os.system is",
            "",
        ),
        ("server:\n  port:\n", "line 2: server.port has no value", "remove the line"),
        ("server:\n  host: ''\n", "line 2: server.host is empty", "Address"),
        ("library:\n  folders: [[a]]\n", "line 2: library.folders needs a single value", ""),
        ("server:\n  port: 1\n  port: 2\n", "line 3: server.port is given twice", "line 2"),
        ("server:\n  port: 1\nserver.port: 2\n", "line 3: server.port is given twice", "line 2"),
        ("server:\n  port: 1\nserver:\n  host: a\n", "line 3: server is given twice", "line 1"),
        ("- a\n- b\n", "line 1: the file holds no settings", "name: value"),
        ("server: 8123\n", "line 1: server holds no settings", "name: value"),
        ("? [a]\n: b\n", "line 1: a name must be a word", ""),
        ("server:\n  port: [1\n", "line 3", "YAML"),
        ("server:\n\tport: 1\n", "line 2", "spaces"),
        ("a: 1\n---\nb: 2\n", "line 2", "YAML"),
        ("server:\n  host: a\x07\n", "line 2: a character that YAML does not allow", ""),
        ("[" * 1000, "cannot be read as YAML", ""),
        ("a: &a [*a]\n", "line 1: a[0] holds itself", "anchor"),
        ("models:\n  folders: [/a]\n", "line 2: unknown setting 'models.folders'", "it is called library.folders now"),
        ("models.offline: true\n", "line 1: unknown setting 'models.offline'", "it is called library.offline now"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(text: str, message: str, hint: str) -> None:
    error = refusal(text)
    assert message in error.message
    assert hint in error.hint


def test_a_missing_file_is_an_error_only_if_it_was_named(tmp_path: Path) -> None:
    named = tmp_path / "named.yaml"
    arguments = {"default_file": tmp_path / "bercail.yaml", "given": {}, "home": tmp_path}
    with pytest.raises(SettingsError, match="does not exist"):
        load_settings(file=named, environment={}, **arguments)  # type: ignore[arg-type] # values of several types
    with pytest.raises(SettingsError, match="does not exist"):
        load_settings(file=None, environment={"BERCAIL_CONFIG": str(named)}, **arguments)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="the quotes are part of that name"):
        load_settings(file=Path(f"'{named}'"), environment={}, **arguments)  # type: ignore[arg-type]


def test_the_named_file_is_read_instead_of_the_default(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("server:\n  port: 5\n")
    settings = load(tmp_path, "server:\n  port: 4\n", {"BERCAIL_CONFIG": str(tmp_path / "other.yaml")})
    assert settings.server.port == 5


def test_a_folder_binary_data_or_a_huge_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bercail.yaml").mkdir()
    with pytest.raises(SettingsError, match="cannot be read"):
        load(tmp_path)
    (tmp_path / "bercail.yaml").rmdir()
    (tmp_path / "bercail.yaml").write_bytes(b"server:\n  host: \xff\n")
    with pytest.raises(SettingsError, match="line 2: this is not UTF-8"):
        load(tmp_path)
    (tmp_path / "bercail.yaml").write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(SettingsError, match="longer than 1 MiB"):
        load(tmp_path)


def test_an_unknown_variable_of_ours_names_the_nearest() -> None:
    with pytest.raises(SettingsError) as caught:
        read_environment({"BERCAIL_SERVER_PROT": "1"})
    assert "BERCAIL_SERVER_PROT" in caught.value.message
    assert "BERCAIL_SERVER_PORT" in caught.value.hint


def test_a_variable_that_has_moved_tells_its_new_name() -> None:
    with pytest.raises(SettingsError) as caught:
        read_environment({"BERCAIL_MODELS_FOLDERS": "/a"})
    assert caught.value.hint == "it is called BERCAIL_LIBRARY_FOLDERS now"


def test_variables_that_are_no_settings_are_left_alone() -> None:
    assert read_environment({"BERCAIL_CONFIG": "x", "BERCAIL_SHARED": "y", "PATH": "z"}) == {}


def test_a_wrong_variable_is_named() -> None:
    with pytest.raises(SettingsError, match=r"environment: BERCAIL_ENGINE_SLOTS: 0 is less than 1"):
        read_environment({"BERCAIL_ENGINE_SLOTS": "0"})
    with pytest.raises(SettingsError, match="BERCAIL_ENGINE_SLOTS is empty"):
        read_environment({"BERCAIL_ENGINE_SLOTS": ""})


def test_an_unknown_key_of_the_command_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"unknown setting 'server\.prot'"):
        load(tmp_path, overrides={"server.prot": 1})


def complaint(act: Callable[[], object]) -> str | None:
    """What a settings error says; None if there is none. Anything else raised fails the test."""
    try:
        act()
    except SettingsError as error:
        return error.message
    return None


@given(st.text() | st.text(alphabet="serverport: \n-[]{}&*!?'\"0123"))
def test_any_text_is_settings_or_a_settings_error_with_its_place(text: str) -> None:
    message = complaint(lambda: read_contents(text, origin="bercail.yaml", environment={}))
    assert message is None or message.startswith("bercail.yaml")


@given(st.sampled_from(every_option()), st.text(min_size=1, max_size=500))
def test_any_value_of_a_variable_is_read_or_refused_by_name(spec: Option, text: str) -> None:
    message = complaint(lambda: read_environment({spec.variable: text}))
    assert message is None or spec.variable in message


def test_a_number_beyond_all_measure_is_refused() -> None:
    with pytest.raises(SettingsError, match="BERCAIL_ENGINE_MEMORY"):
        read_environment({"BERCAIL_ENGINE_MEMORY": "9" * 400})
