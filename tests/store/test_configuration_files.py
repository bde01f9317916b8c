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
    assert files.look(str(link), None) is None
    for place in (old, new):
        place.mkdir()
        (place / "c.yaml").write_text("models: {}\n")
    folder.symlink_to(old.name)
    link.symlink_to("..data/c.yaml")
    seen = [files.look(str(link), None), files.look(str(link), None)]
    assert seen[0] == seen[1] is not None
    folder.unlink()
    folder.symlink_to(new.name)  # a ConfigMap of Kubernetes
    seen.append(files.look(str(link), None))
    (new / "c.yaml").write_text("models: {}\n\n")
    seen.append(files.look(str(link), None))
    other = tmp_path / "other"
    other.write_text("models: {}\n\n")
    other.replace(new / "c.yaml")  # an editor
    seen.append(files.look(str(link), None))
    assert len(set(seen)) == 4
    (new / "c.yaml").unlink()
    assert files.look(str(link), None) is None


def conf(folder: Path, **texts: str) -> ConfigurationFiles:
    """A folder of configurations."""
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return ConfigurationFiles({"N": "9"}, folder)


RUN = "{cmd: 'x ${PORT}'}"


def test_the_files_of_a_folder_are_read_as_one_after_the_file_that_is_named(tmp_path: Path) -> None:
    folder, named = tmp_path / "conf.d", tmp_path / "main.yaml"
    named.write_text("macros: {bin: 'run ${PORT}'}\nmodels:\n  z: {cmd: '${bin} z'}\napiKeys: [k1]\nglobalTTL: 5\n")
    second = "models: {b: {cmd: '${bin} ${env.N}'}}\napiKeys: [k2]\nglobalTTL: 5\n"
    files = conf(folder, b=second, a=f"models: {{a: {RUN}}}\n", c="")
    (folder / "README.md").write_text("not: [a, configuration")
    (folder / "below.yaml").mkdir()
    found = files.read(files.gather(str(named), str(folder)))
    assert [(model.id, model.line) for model in found.models] == [("z", 3), ("a", 1), ("b", 1)]
    assert found.gateway.api_keys == ("k1", "k2")
    assert {model.ttl_s for model in found.models} == {5.0}


FIRST = "it is already in {0}/a.yaml, line"
AT_ODDS = {
    f"models:\n  m: {RUN}\n": (
        f"\nmodels:\n  m: {RUN}\n",
        "line 3: models.m is declared twice (" + FIRST + " 2: keep one",
    ),
    "groups: {g: {members: []}}\n": ("groups: {g: {members: []}}\n", "line 1: groups.g is declared twice"),
    "globalTTL: 5\n": ("globalTTL: 6\n", "line 1: globalTTL is 6, and 5 in {0}/a.yaml, line 1 (files that are merged"),
    "apiKeys: [a]\n": ("apiKeys: {a: b}\n", "line 1: apiKeys is a mapping, and a list in {0}/a.yaml, line 1"),
    f"models: {{m: {RUN}}}\n": ("models:\n  n: {cmd: x, proxy: 'http://h', ttl: -5}\n", "line 2: models.n.ttl"),
    "server: {port: 1}\n": ("server.port: 2\n", "line 1: server.port is given twice (" + FIRST + " 1"),
    "server: {port: 3}\n": ("\n\nserver: {prot: 2}\n", "line 3: unknown setting 'server.prot'"),
    "macros: {a: '${b}'}\n": ("macros: {b: x}\n", "it is declared later, in {0}/b.yaml, line 1: move it above"),
    "models: {}\n": ("x: [\n", "line 2"),
    "models: \n": ("store: {path: /no/such/x}\n", "line 1: store.path: the folder /no/such does not exist"),
}


@pytest.mark.parametrize("one", AT_ODDS)
def test_files_that_contradict_each_other_are_told_with_both_places(tmp_path: Path, one: str) -> None:
    other, words = AT_ODDS[one]
    files = conf(tmp_path, a=one, b=other)
    with pytest.raises(SettingsError) as caught:
        files.read(files.gather(None, str(tmp_path)))
    assert words.replace("{0}", str(tmp_path)) in str(caught.value)


def test_nothing_yields_to_something_and_mappings_are_joined(tmp_path: Path) -> None:
    text = "hooks: {on_startup: {preload: [%s]}}\nperformance:\n"
    first = f"models: {{m: {RUN}}}\n" + text % "m"
    files = conf(tmp_path, a=first, b=f"models: {{n: {RUN}}}\n" + text % "n" + "  every: 7s\n")
    found = files.read(files.gather(None, str(tmp_path)))
    assert (found.preload, found.gateway.sample_s) == (("m", "n"), 7.0)
    back = files.read(tuple(reversed(files.gather(None, str(tmp_path)))))
    assert (back.preload, back.gateway.sample_s) == (("n", "m"), 7.0)


def test_what_of_several_files_is_ignored_is_told_with_its_file(tmp_path: Path) -> None:
    files = conf(tmp_path, a=f"models: {{m: {RUN}}}\nzz: 1\n", b="\nyy: 1\n")
    notes = files.read(files.gather(None, str(tmp_path))).notes
    assert [(note.line, note.text) for note in notes] == [
        (2, f"{tmp_path}/a.yaml: unknown key 'zz' is ignored"), (2, f"{tmp_path}/b.yaml: unknown key 'yy' is ignored"),
    ]  # fmt: skip


def test_a_folder_is_wrong_without_files_or_with_one_that_is_named_beside_it(tmp_path: Path) -> None:
    files = conf(tmp_path / "d", a="models: {}\n")
    with pytest.raises(SettingsError, match="whose files are all read"):
        files.gather(str(tmp_path / "d" / "a.yaml"), str(tmp_path / "d"))
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        files.gather(None, str(tmp_path / "e"))
    (tmp_path / "e").mkdir()
    with pytest.raises(SettingsError, match="holds no configuration"):
        files.gather(None, str(tmp_path / "e"))


def test_a_folder_looks_different_with_every_file_that_comes_goes_or_changes(tmp_path: Path) -> None:
    files = conf(tmp_path / "d", a="models: {}\n")
    place = str(tmp_path / "d")
    seen = [files.look(None, place), files.look(place, None)]
    assert seen[0] == seen[1] is not None
    (tmp_path / "d" / "notes.txt").write_text("x")
    assert files.look(None, place) == seen[0]
    (tmp_path / "d" / "b.yml").write_text("models: {}\n")
    seen.append(files.look(None, place))
    (tmp_path / "d" / "b.yml").write_text("models:  {}\n")
    seen.append(files.look(None, place))
    assert len(set(seen)) == 3
    assert files.look(None, str(tmp_path / "none")) is None


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
    assert files.read(files.gather(str(file), None)).gateway.api_keys == ("k",)
    with pytest.raises(SettingsError, match="does not exist"):
        files.gather(str(tmp_path / "none.yaml"), None)


def test_settings_in_force_come_from_the_files_the_environment_and_the_command_line(tmp_path: Path) -> None:
    files = ConfigurationFiles({"BERCAIL_SERVER_QUEUE": "7"}, tmp_path)
    texts = (("c.yaml", "server: {port: 5, queue: 6}\nengine: {slots: 2}\nmodels: {}\n"),)
    found = files.load(texts, {"engine.slots": 3, "engine.context": None})
    assert (found.settings.server.port, found.settings.server.queue, found.settings.engine.slots) == (5, 7, 3)
    assert files.settings(texts).server.queue == 6, "these of the files alone"
    assert found.configuration == files.read(texts)


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
        assert files.read(((file, text),)).gateway.store_path == str(tmp_path / path)
    for path, why in ((".", "is a folder"), ("none/new.db", "does not exist")):
        with pytest.raises(SettingsError) as caught:
            files.read(((file, f"models: {{}}\nstore: {{path: {path}}}\n"),))
        assert caught.value.message.startswith(f"{file}, line 2: store.path: ")
        assert why in caught.value.message
    if os.geteuid() == 0:
        return
    (tmp_path / "there.db").chmod(0o400)
    with pytest.raises(SettingsError, match="may not be written to"):
        files.read(((file, "models: {}\nstore: {path: there.db}\n"),))
