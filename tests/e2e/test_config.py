"""``bercail config`` as people run it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[..., Any]


def test_a_good_file_is_told_and_ends_well(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("models:\n  m: {cmd: 'no-such-program ${PORT}', aliases: [gpt]}\nothr: 1\n")
    done = run("config", "check", str(file))
    assert done.status == 0
    assert done.out.startswith(f"{file}: a configuration of llama-swap, 1 model\n")
    for words in ("no-such-program 5800", "unknown key 'othr' is ignored", "there is no program no-such-program"):
        assert words in done.out
    document = json.loads(run("config", "check", str(file), "--json").out)
    assert (document["schema"], document["wrong"]) == ("bercail.config/1", None)
    assert document["models"][0]["argv"] == ["no-such-program", "5800"]


def test_a_wrong_file_is_told_and_ends_with_1(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("server: {}\nmodels:\n  m: {modl: a.gguf}\n")
    done = run("config", "check", str(file))
    assert done.status == 1
    assert f"error: {file}, line 3: unknown setting 'modl' in models.m" in done.err
    assert "did you mean model?" in done.err
    done = run("config", "check", str(file), "--json")
    assert done.status == 1
    assert json.loads(done.out)["wrong"]["code"] == "unknown_setting"


def test_an_empty_file_and_one_that_is_not_there(run: Run, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").touch()
    done = run("config", "check", str(tmp_path / "c.yaml"))
    assert (done.status, done.out) == (0, f"{tmp_path / 'c.yaml'}: a configuration of bercail, 0 models\n")
    assert run("config", "check", str(tmp_path / "none.yaml")).status == 2


def test_a_wrong_settings_file_does_not_keep_config_check_from_working(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "config" / "bercail"
    folder.mkdir(parents=True)
    (folder / "bercail.yaml").write_text("models:\n  folders: [/a]\n")
    done = run("models")
    assert done.status == 2
    assert "it is called library.folders now" in done.err
    assert run("config", "check", str(folder / "bercail.yaml")).status == 1


def test_what_is_declared_is_not_served_beside_what_is_named_and_that_is_told(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("models:\n  m: {cmd: 'run ${PORT}'}\n")
    done = run("up", "none.gguf", "--config", str(file))
    assert done.status == 1
    assert "those that the configuration declares are not served" in done.err


def test_the_schema_is_printed(run: Run) -> None:
    assert json.loads(run("config", "schema").out)["title"] == "bercail.yaml"
