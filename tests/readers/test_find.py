"""Finding models: arguments, settings, and the stores of other tools in their own layouts."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bercail.core.model import Findings, FoundModel
from bercail.readers import Readers

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DIGEST = "ab" * 32


def put(path: Path, size: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def find(tmp_path: Path, *paths: str, folders: list[str] | None = None, **environment: Any) -> Findings:
    home, cwd = tmp_path / "home", tmp_path / "here"
    cwd.mkdir(exist_ok=True)
    return Readers(environment, home, cwd).find(list(paths), folders or [])


def ids(findings: Findings) -> list[str]:
    return [model.id for model in findings.models]


def only(findings: Findings) -> FoundModel:
    assert len(findings.models) == 1, findings
    return findings.models[0]


def test_nothing_anywhere_tells_where_was_looked(tmp_path: Path) -> None:
    findings = find(tmp_path)
    assert findings.models == ()
    assert f"{tmp_path}/home/.cache/huggingface/hub: not there" in findings.looked
    assert f"{tmp_path}/here/models: not there" in findings.looked
    assert len(findings.looked) >= 8


def test_file_argument_is_one_model(tmp_path: Path) -> None:
    path = put(tmp_path / "here" / "some.thing.Q4_K_M.gguf", 7)
    model = only(find(tmp_path, "some.thing.Q4_K_M.gguf"))
    assert (model.id, model.path, model.source, model.bytes) == ("some.thing.Q4_K_M", str(path), "argument", 7)


def test_missing_argument_is_a_problem_with_a_suggestion(tmp_path: Path) -> None:
    put(tmp_path / "here" / "model-q8.gguf")
    findings = find(tmp_path, "model-q9.gguf")
    assert findings.models == ()
    assert "did you mean model-q8.gguf?" in findings.problems[0]
    assert findings.looked == ("model-q9.gguf: cannot be used",)


def test_folder_argument_is_searched_deeply_but_not_its_hidden_folders(tmp_path: Path) -> None:
    put(tmp_path / "here" / "a" / "b" / "one.gguf")
    put(tmp_path / "here" / "TWO.GGUF")
    put(tmp_path / "here" / ".trash" / "three.gguf")
    put(tmp_path / "here" / "readme.md")
    assert ids(find(tmp_path, ".")) == ["TWO", "one"]


def test_settings_come_before_other_tools(tmp_path: Path) -> None:
    put(tmp_path / "mine" / "one.gguf")
    put(tmp_path / "here" / "models" / "two.gguf")
    model = only(find(tmp_path, folders=[str(tmp_path / "mine")]))
    assert (model.id, model.source) == ("one", "settings")
    assert only(find(tmp_path)).source == "./models"


def test_folders_of_the_settings_that_cannot_be_searched_are_told(tmp_path: Path) -> None:
    put(tmp_path / "mine" / "one.gguf")
    gone, quoted, file = str(tmp_path / "gone"), f"'{tmp_path / 'mine'}'", str(tmp_path / "mine" / "one.gguf")
    findings = find(tmp_path, folders=[gone, quoted, file, str(tmp_path / "mine")])
    assert ids(findings) == ["one"]
    assert findings.problems == (
        f"{gone}: not there",
        f"{quoted}: not there: the quotes are part of that name: write it without them",
        f"{file}: not a folder",
    )


def test_links_in_circles_end_and_each_file_counts_once(tmp_path: Path) -> None:
    put(tmp_path / "here" / "d" / "one.gguf")
    (tmp_path / "here" / "d" / "round").symlink_to(tmp_path / "here")
    (tmp_path / "here" / "d" / "same.gguf").symlink_to("one.gguf")
    (tmp_path / "here" / "d" / "gone.gguf").symlink_to("nowhere")
    findings = find(tmp_path, ".")
    assert ids(findings) == ["one"]
    assert "seen before" in findings.looked[0]
    assert "leads nowhere" in findings.problems[0]


def test_unfinished_downloads_and_odd_files_are_told(tmp_path: Path) -> None:
    put(tmp_path / "here" / "a.gguf.part")
    put(tmp_path / "here" / "b.gguf.downloadInProgress")
    os.mkfifo(tmp_path / "here" / "c.gguf")
    findings = find(tmp_path, ".")
    assert findings.models == ()
    assert [problem.rpartition(": ")[2] for problem in findings.problems] == [
        "an unfinished download", "an unfinished download", "not a regular file",
    ]  # fmt: skip


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folder_without_permission_is_told(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    assert find(tmp_path, folders=[str(closed)]).looked == (f"{closed}: no permission",)


def test_parts_count_as_one_model_and_lost_parts_are_told(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        put(tmp_path / "here" / f"big-{number:05d}-of-00003.gguf", 5)
        put(tmp_path / "here" / f"torn-{number:05d}-of-00003.gguf", 5)
    (tmp_path / "here" / "torn-00002-of-00003.gguf").unlink()
    findings = find(tmp_path, ".")
    model = only(findings)
    assert (model.id, model.bytes) == ("big", 15)
    assert model.path.endswith("big-00001-of-00003.gguf")
    assert len(findings.problems) == 1
    assert "torn-00002-of-00003.gguf" in findings.problems[0]
    assert only(find(tmp_path, "big-00002-of-00003.gguf")).path == model.path
    assert "torn-00002" in find(tmp_path, "torn-00003-of-00003.gguf").problems[0]


@pytest.mark.parametrize(
    ("projectors", "model", "expected"),
    [
        (["mmproj-F16.gguf"], "gemma-3-4b-it-Q4_K_M.gguf", "mmproj-F16.gguf"),
        (["mmproj-F32.gguf", "mmproj-BF16.gguf", "mmproj-F16.gguf"], "gemma-3-4b-it-Q4_K_M.gguf", "mmproj-F16.gguf"),
        (["mmproj-gemma-3-4b-it-f16.gguf", "mmproj-qwen2-vl-f16.gguf"], "gemma-3-4b-it-Q4_K_M.gguf",
         "mmproj-gemma-3-4b-it-f16.gguf"),
        (["mmproj-other-f16.gguf"], "gemma-3-4b-it-Q4_K_M.gguf", "mmproj-other-f16.gguf"),
        (["gemma-3-4b-it-mmproj-f16.gguf"], "gemma-3-4b-it-Q4_K_M.gguf", "gemma-3-4b-it-mmproj-f16.gguf"),
        ([], "gemma-3-4b-it-Q4_K_M.gguf", None),
    ],
)  # fmt: skip
def test_projector_goes_with_the_model_beside_it(
    tmp_path: Path, projectors: list[str], model: str, expected: str | None
) -> None:
    for name in [*projectors, model, "imatrix.gguf"]:
        put(tmp_path / "here" / name)
    wanted = str(tmp_path / "here" / expected) if expected else None
    assert only(find(tmp_path, ".")).projector == wanted
    assert only(find(tmp_path, model)).projector == wanted


def test_projector_of_another_model_in_the_folder_stays_with_it(tmp_path: Path) -> None:
    for name in ("mmproj-qwen2-vl-f16.gguf", "qwen2-vl-7b.gguf", "llama-3-8b.gguf"):
        put(tmp_path / "here" / name)
    attached = {model.id: bool(model.projector) for model in find(tmp_path, ".").models}
    assert attached == {"qwen2-vl-7b": True, "llama-3-8b": False}


def hub_file(hub: Path, repository: str, name: str, blob: str, revision: str = COMMIT) -> None:
    root = hub / f"models--{repository.replace('/', '--')}"
    put(root / "blobs" / blob, len(blob))
    link = root / "snapshots" / revision / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(root / "blobs" / blob, link.parent))


def test_hugging_face_cache_gives_names_of_snapshots(tmp_path: Path) -> None:
    hub = tmp_path / "home" / ".cache" / "huggingface" / "hub"
    hub_file(hub, "org/Model-GGUF", "Q4/m-00001-of-00002.gguf", "aa")
    hub_file(hub, "org/Model-GGUF", "Q4/m-00002-of-00002.gguf", "bbb")
    hub_file(hub, "org/Model-GGUF", "mmproj-F16.gguf", "cc")
    hub_file(hub, "org/Model-GGUF", "Q4/m-00001-of-00002.gguf", "old", revision="f" * 40)
    hub_file(hub, "org/Model-GGUF", "Q4/m-00002-of-00002.gguf", "older", revision="f" * 40)
    (hub / "models--org--Model-GGUF" / "refs").mkdir()
    (hub / "models--org--Model-GGUF" / "refs" / "main").write_text(COMMIT)
    findings = find(tmp_path)
    model = only(findings)
    snapshot = hub / "models--org--Model-GGUF" / "snapshots" / COMMIT
    assert (model.id, model.source, model.bytes) == ("m", "huggingface", 5)
    assert model.path == str(snapshot / "Q4" / "m-00001-of-00002.gguf")
    assert model.projector == str(snapshot / "mmproj-F16.gguf")
    assert f"{hub}: 1 model" in findings.looked


@pytest.mark.parametrize(("key", "below"), [("HF_HUB_CACHE", ""), ("HF_HOME", "hub")])
def test_variables_move_the_hugging_face_cache(tmp_path: Path, key: str, below: str) -> None:
    hub_file(tmp_path / "elsewhere" / below, "org/name", "m.gguf", "aa")
    assert only(find(tmp_path, folders=None, **{key: str(tmp_path / "elsewhere")})).id == "m"


def test_lm_studio_keeps_models_by_publisher(tmp_path: Path) -> None:
    put(tmp_path / "home" / ".lmstudio" / "models" / "publisher" / "repo" / "m.gguf")
    assert only(find(tmp_path)).source == "lmstudio"


def test_llama_cpp_cache_gives_projectors_only_to_their_own(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for name in ("org_a_a.gguf", "org_a_mmproj-f16.gguf", "org_b_b.gguf"):
        put(cache / name)
    hub_file(cache, "org/c", "c.gguf", "cc")
    findings = find(tmp_path, LLAMA_CACHE=str(cache))
    assert {model.id: bool(model.projector) for model in findings.models} == {
        "c": False, "org_a_a": True, "org_b_b": False,
    }  # fmt: skip
    assert {model.source for model in findings.models} == {"llama.cpp"}


def manifest(root: Path, name: str, layers: Any) -> None:
    path = put(root / "manifests" / "registry.ollama.ai" / name)
    path.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))


def layer(kind: str, digest: str) -> dict[str, object]:
    return {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": f"sha256:{digest}", "size": 1}


def test_ollama_store_gives_names_with_tags(tmp_path: Path) -> None:
    root = tmp_path / "home" / ".ollama" / "models"
    put(root / "blobs" / f"sha256-{DIGEST}", 33)
    put(root / "blobs" / f"sha256-{'cd' * 32}")
    manifest(
        root, "library/gemma3/4b", [layer("model", DIGEST), layer("projector", "cd" * 32), layer("params", "0" * 64)]
    )
    manifest(root, "someone/tuned/latest", [layer("model", DIGEST)])
    findings = find(tmp_path)
    assert ids(findings) == ["gemma3:4b", "someone/tuned:latest"]
    first = findings.models[0]
    assert (first.path, first.bytes, first.source) == (str(root / "blobs" / f"sha256-{DIGEST}"), 33, "ollama")
    assert first.projector == str(root / "blobs" / f"sha256-{'cd' * 32}")


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([layer("model", DIGEST)], "is missing"), ([layer("tensor", DIGEST)], "no GGUF"), ("x", "not a manifest"),
        ([{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../../etc/passwd"}], "no GGUF"),
        ([None, 3], "no GGUF"),
    ],
)  # fmt: skip
def test_manifest_that_leads_nowhere_is_told(tmp_path: Path, layers: Any, words: str) -> None:
    root = tmp_path / "store"
    manifest(root, "library/x/latest", layers)
    findings = find(tmp_path, OLLAMA_MODELS=str(root))
    assert findings.models == ()
    assert words in findings.problems[0]


def test_manifest_that_is_no_json_is_told(tmp_path: Path) -> None:
    root = tmp_path / "store"
    put(root / "manifests" / "r" / "library" / "x" / "latest")
    (root / "manifests" / "r" / "library" / "x" / "deep").write_text("[" * 200_000)
    findings = find(tmp_path, OLLAMA_MODELS=str(root))
    assert len(findings.problems) == 2


def test_namesakes_get_their_folder_and_then_a_number(tmp_path: Path) -> None:
    for folder in ("a", "b", "x/a"):
        put(tmp_path / "here" / folder / "m.gguf")
    put(tmp_path / "here" / "c" / "other.gguf")
    findings = find(tmp_path, ".")
    assert ids(findings) == ["a/m", "b/m", "other", "a/m-2"]
    assert sum("several models are named m" in word for word in findings.looked) == 3


def test_the_same_file_named_twice_counts_once(tmp_path: Path) -> None:
    put(tmp_path / "here" / "m.gguf")
    assert ids(find(tmp_path, "m.gguf", ".", "m.gguf")) == ["m"]
