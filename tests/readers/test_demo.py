"""The model in the box: found where nothing else is, and always by its name."""

from pathlib import Path

import pytest

from bercail.core.model import DEMO_ID
from bercail.readers import Readers
from tools.synth.shapes import tiny
from tools.synth.write import write_gguf


@pytest.fixture
def readers(tmp_path: Path) -> Readers:
    known = tiny()
    (tmp_path / "box").mkdir()
    (tmp_path / "cwd").mkdir()
    demo = write_gguf(tmp_path / "box" / f"{DEMO_ID}.gguf", known.metadata, known.tensors)
    return Readers({}, tmp_path / "home", tmp_path / "cwd", demo)


def put_model(folder: Path) -> None:
    folder.mkdir(parents=True)
    known = tiny()
    write_gguf(folder / "own.gguf", known.metadata, known.tensors)


def found(readers: Readers, *paths: str, folders: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    return [(model.id, model.source) for model in readers.find(paths, folders).models]


def test_where_no_model_is_the_demo_is_found(readers: Readers) -> None:
    assert found(readers) == [(DEMO_ID, "demo")]


def test_where_the_folders_of_the_settings_are_empty_the_demo_is_found(readers: Readers, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert found(readers, folders=(str(tmp_path / "empty"),)) == [(DEMO_ID, "demo")]


def test_where_a_model_is_the_demo_stays_in_its_box(readers: Readers, tmp_path: Path) -> None:
    put_model(tmp_path / "cwd" / "models")
    assert found(readers) == [("own", "./models")]


def test_named_the_demo_is_found_beside_other_models(readers: Readers, tmp_path: Path) -> None:
    put_model(tmp_path / "cwd" / "models")
    assert found(readers, DEMO_ID) == [(DEMO_ID, "demo")]


def test_a_folder_of_the_demos_name_wins_over_the_demo(readers: Readers, tmp_path: Path) -> None:
    put_model(tmp_path / "cwd" / DEMO_ID)
    assert found(readers, DEMO_ID) == [("own", "argument")]


def test_an_empty_folder_that_was_named_is_not_answered_with_the_demo(readers: Readers, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert found(readers, str(tmp_path / "empty")) == []


def test_the_demo_reads_under_the_id_it_was_found_by(readers: Readers) -> None:
    (model,) = readers.find((), ()).models
    assert readers.read(model.path).id == DEMO_ID


def test_an_installation_without_the_demo_finds_nothing(tmp_path: Path) -> None:
    assert found(Readers({}, tmp_path, tmp_path)) == []
