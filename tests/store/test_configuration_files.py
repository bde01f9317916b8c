"""Configurations as files: whatever the text, a value or one error with its place."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.config_keys import MODEL, TOP
from bercail.core.errors import SettingsError
from bercail.core.options import Settings
from bercail.core.tree import Dialect
from bercail.store import ConfigurationFiles, load_settings
from bercail.store.contents import read_contents


def complaint(text: str) -> str | None:
    """What a settings error says; None if there is none. Anything else raised fails the test."""
    try:
        read_contents(text, origin="c.yaml", environment={"A": "b"})
    except SettingsError as error:
        return error.message
    return None


def test_a_file_looks_different_once_it_was_written_to_replaced_or_led_elsewhere(tmp_path: Path) -> None:
    files = ConfigurationFiles({}, tmp_path)
    link, folder, old, new = (tmp_path / name for name in ("c.yaml", "..data", "..1", "..2"))
    assert files.look(str(link)) is None
    for place in (old, new):
        place.mkdir()
        (place / "c.yaml").write_text("models: {}\n")
    folder.symlink_to(old.name)
    link.symlink_to("..data/c.yaml")
    seen = [files.look(str(link)), files.look(str(link))]
    assert seen[0] == seen[1] is not None
    folder.unlink()
    folder.symlink_to(new.name)  # a ConfigMap of Kubernetes
    seen.append(files.look(str(link)))
    (new / "c.yaml").write_text("models: {}\n\n")
    seen.append(files.look(str(link)))
    other = tmp_path / "other"
    other.write_text("models: {}\n\n")
    other.replace(new / "c.yaml")  # an editor
    seen.append(files.look(str(link)))
    assert len(set(seen)) == 4
    (new / "c.yaml").unlink()
    assert files.look(str(link)) is None


WORDS = [key.name for key in (*TOP, *MODEL)]
PIECES = st.sampled_from(
    [*WORDS, "server", "a", "b", "${PORT}", "${a}", "${env.A}", "${env.B}", "a & (b | +c)", "1", "-1", "true",
     "null", "&x ", "*x", "<<: ", ": ", "- ", "\n", "\n  ", "\n    ", "[", "]", "{", "}", ",",
     "'", '"', "#", "|", ">", "!!int "]
)  # fmt: skip


@given(st.text() | st.lists(PIECES, max_size=30).map("".join))
def test_any_text_is_a_configuration_or_an_error_with_its_place(text: str) -> None:
    message = complaint(text)
    assert message is None or message.startswith("c.yaml")


BELOW = ["a", "b", "pins", "targets", "strategy", "sets", "vars", "members", "router", "settings"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99999) | st.floats(allow_nan=False) | st.sampled_from(
        ["a", "b", "x", "", "run ${PORT}", "http://h:1", "${m}", "a & b", "+s", "(a", "warm", "spillover", "5s"]
    ),
    lambda below: st.lists(below, max_size=3)
    | st.dictionaries(st.sampled_from([*WORDS, *BELOW]), below, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from([*(key.name for key in TOP), "server"]), VALUES, max_size=5))
def test_any_tree_is_a_configuration_or_an_error_with_its_place(tree: dict[str, object]) -> None:
    message = complaint(json.dumps(tree))
    assert message is None or message.startswith("c.yaml")


FITTING = st.fixed_dictionaries(
    {
        "models": st.dictionaries(
            st.sampled_from(["a", "b", "c"]),
            st.dictionaries(st.sampled_from([key.name for key in MODEL if not key.ours]), VALUES, max_size=4).map(
                lambda own: {"cmd": "run ${PORT}", **own}
            ),
        )
    },
    optional={key.name: VALUES for key in TOP if key.name != "models"},
)


@given(FITTING)
def test_any_models_are_a_configuration_or_an_error_with_its_place(tree: dict[str, object]) -> None:
    message = complaint(json.dumps(tree))
    assert message is None or message.startswith("c.yaml")


@pytest.fixture
def files(tmp_path: Path) -> ConfigurationFiles:
    return ConfigurationFiles({"PATH": str(tmp_path / "bin"), "KEY": "k"}, tmp_path / "home")


def test_settings_and_models_stand_in_one_file(tmp_path: Path) -> None:
    file = tmp_path / "bercail.yaml"
    file.write_text("server: {port: 9000}\nmodels: {m: {model: a.gguf, description: '${env.KEY}'}}\n")
    loaded = load_settings(file=None, default_file=file, environment={"KEY": "k"}, given={}, home=tmp_path)
    assert loaded.settings.server.port == 9000
    assert [model.description for model in loaded.configuration.models] == ["k"]


def test_a_llama_swap_file_has_no_settings(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("models: {m: {cmd: 'run ${PORT}'}}\nother: 1\n")
    loaded = load_settings(file=file, default_file=file, environment={}, given={}, home=tmp_path)
    assert loaded.settings == Settings()
    assert loaded.configuration.dialect is Dialect.LLAMA_SWAP


def test_a_file_is_read_with_the_environment(files: ConfigurationFiles, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("models: {}\napiKeys: ['${env.KEY}']\n")
    assert files.read(files.read_text(str(file)), str(file)).gateway.api_keys == ("k",)
    with pytest.raises(SettingsError, match="does not exist"):
        files.read_text(str(tmp_path / "none.yaml"))


def test_files_are_looked_for_beside_the_configuration_and_at_home(files: ConfigurationFiles, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "a.gguf").touch()
    (tmp_path / "b.gguf").touch()
    file = str(tmp_path / "c.yaml")
    assert files.has_file("~/a.gguf", file)
    assert files.has_file("./b.gguf", file)
    assert files.has_file(str(tmp_path / "b.gguf"), file)
    assert not files.has_file("a.gguf", file)


def test_programs_are_looked_for_where_they_would_be_started(files: ConfigurationFiles, tmp_path: Path) -> None:
    for folder in ("bin", "other"):
        (tmp_path / folder).mkdir()
    program = tmp_path / "bin" / "run"
    program.write_text("#!/bin/sh\n")
    assert not files.has_program("run", None)
    program.chmod(0o755)
    assert files.has_program("run", None)
    assert files.has_program(str(program), None)
    assert not files.has_program("run", str(tmp_path / "other"))


def test_a_store_that_cannot_be_written_is_refused(files: ConfigurationFiles, tmp_path: Path) -> None:
    file = str(tmp_path / "c.yaml")
    (tmp_path / "there.db").touch()
    for path in ("new.db", "there.db", str(tmp_path / "new.db")):
        text = f"models: {{}}\nstore: {{path: {path}}}\n"
        assert files.read(text, file).gateway.store_path == path
    for path, why in ((".", "is a folder"), ("none/new.db", "does not exist")):
        with pytest.raises(SettingsError) as caught:
            files.read(f"models: {{}}\nstore: {{path: {path}}}\n", file)
        assert caught.value.message.startswith(f"{file}, line 2: store.path: ")
        assert why in caught.value.message
    if os.geteuid() == 0:
        return
    (tmp_path / "there.db").chmod(0o400)
    with pytest.raises(SettingsError, match="may not be written to"):
        files.read("models: {}\nstore: {path: there.db}\n", file)
