"""``bercail config check``: what a configuration says, and what is missing here."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from bercail.core.config_document import config_document
from bercail.core.config_report import config_line, config_sections, cores_sections, later_sections
from bercail.core.configuration import Configuration, Loaded
from bercail.core.errors import ReadError, SettingsError
from bercail.core.model import Findings
from bercail.core.options import Settings
from bercail.core.report import Section
from bercail.core.tree import Note, NoteKind, Texts
from bercail.flows import check_configuration
from bercail.store.contents import read_all
from bercail.store.settings import apply
from fakes.house import FakeProber, FakeReader
from fakes.models import a_found, a_model


@dataclass(slots=True, kw_only=True)
class FakeFiles:
    """A disk with these files and programs."""

    text: str
    files: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    searched: list[str | None] = field(default_factory=list)

    def look(self, file: str | None, folder: str | None) -> str:
        return self.text

    def gather(self, file: str | None, folder: str | None) -> Texts:
        if not self.text or file is None:
            raise SettingsError(f"the settings file {file} does not exist", code="no_settings_file")
        return ((file, self.text),)

    def read(self, texts: Texts) -> Configuration:
        return read_all(texts, {}).configuration

    def load(self, texts: Texts, given: Mapping[str, object]) -> Loaded:
        return Loaded(settings=self.settings(texts), configuration=self.read(texts))

    def settings(self, texts: Texts) -> Settings:
        return apply(read_all(texts, {}).settings)

    def has_file(self, path: str, file: str) -> bool:
        return path in self.files

    def has_program(self, name: str, path: str | None) -> bool:
        self.searched.append(path)
        return name in self.programs


TEXT = """
server: {port: 1}
models:
  a: {model: ./a.gguf, context: 4k, gpus: [0, 1], aliases: [gpt, x]}
  b: {cmd: "llama-server --port ${PORT} -m /b.gguf", env: ["PATH=/opt", "TEXT=a b"], cmdStop: "stop ${PID}"}
  c: {proxy: https://far/v1}
  d: {model: known-id}
peers: {p: {proxy: http://h, models: [big], apiKey: s3cret}}
selectors: {s: {strategy: pin, targets: [a, b]}}
profiles: {w: {pins: {gpt: big, old: }}}
"""


def test_a_file_whose_name_holds_its_quotes_is_told_as_that() -> None:
    checked = check_configuration(
        FakeFiles(text="models:\n  a: {model: \"'~/a.gguf'\"}\n"), FakeProber(), FakeReader(), "c.yaml"
    )
    words = "models.a: there is no file '~/a.gguf': the quotes are part of that name: write it without them"
    assert checked.missing == (Note(line=2, kind=NoteKind.WARNING, text=words),)


def table(sections: tuple[Section, ...], title: str) -> tuple[tuple[str, ...], ...]:
    return next((section.rows for section in sections if section.title == title), ())


def test_a_good_configuration_is_told_with_what_is_missing() -> None:
    files = FakeFiles(text=TEXT, programs=("llama-server",))
    checked = check_configuration(files, FakeProber(), FakeReader(), "c.yaml")
    assert checked.wrong is None
    assert checked.configuration is not None
    assert checked.missing == (
        Note(line=4, kind=NoteKind.WARNING, text="models.a: there is no file ./a.gguf"),
        Note(line=5, kind=NoteKind.WARNING, text="models.b: there is no file /b.gguf"),
    )
    assert files.searched == ["/opt"]
    sections = config_sections(checked.configuration, checked.missing)
    assert config_line("c.yaml", checked.configuration) == "c.yaml: a configuration of bercail, 4 models"
    assert table(sections, "Models") == (
        ("a", "file", "", "gpt, x", "as memory allows"),
        ("b", "command", "5800", "", "as memory allows"),
        ("c", "elsewhere", "", "", "as memory allows"),
        ("d", "file", "", "", "as memory allows"),
    )
    assert table(sections, "What starts them") == (
        ("a", "./a.gguf gpus=0,1 context=4096"),
        ("b", "PATH=/opt TEXT='a b' llama-server --port 5800 -m /b.gguf"),
        ("c", "https://far/v1"),
        ("d", "known-id"),
    )
    assert table(sections, "Other names") == (
        ("s", "selector, pin", "a, b"),
        ("w", "profile", "gpt -> big, old -> nothing"),
        ("p", "peer", "http://h: big"),
    )
    assert table(sections, "Not on this machine") == tuple((str(note.line), note.text) for note in checked.missing)
    assert "s3cret" not in repr(sections)


def test_nothing_is_missing_where_all_is_there() -> None:
    files = FakeFiles(text=TEXT, files=("./a.gguf", "/b.gguf"), programs=("llama-server",))
    assert check_configuration(files, FakeProber(), FakeReader(), "c.yaml").missing == ()
    assert check_configuration(FakeFiles(text=TEXT), FakeProber(), FakeReader(), "c.yaml").missing[1].text == (
        "models.b: there is no program llama-server"
    )


def test_who_may_be_beside_whom_is_told() -> None:
    one = "models:\n  a: {cmd: run, proxy: http://h}\n"
    swap = one + "  b: {cmd: run, proxy: http://h}\n"
    for text, expected in (
        ("", ["(default)", "(default)"]),
        ("groups: {g: {members: [b]}}\nunknown: 1\n", ["(default)", "g"]),
        ("matrix: {sets: {s: a, t: a}}\n", ["s, t", "alone"]),
    ):
        checked = check_configuration(FakeFiles(text=swap + text), FakeProber(), FakeReader(), "c.yaml")
        assert checked.configuration is not None
        sections = config_sections(checked.configuration, ())
        assert [row[4] for row in table(sections, "Models")] == expected
    checked = check_configuration(FakeFiles(text=one + "unknown: 1\n"), FakeProber(), FakeReader(), "c.yaml")
    assert checked.configuration is not None
    assert table(config_sections(checked.configuration, ()), "Read otherwise, or not at all") == (
        ("3", "unknown key 'unknown' is ignored"),
    )
    assert config_line("c.yaml", checked.configuration) == "c.yaml: a configuration of llama-swap, 1 model"


def test_what_a_reload_would_not_take_is_told_beforehand() -> None:
    text = "server: {port: 1}\nengine: {context: 4k, slots: }\nlogLevel: warn\nlogToStdout: proxy\nmodels: {}\n"
    checked = check_configuration(FakeFiles(text=text), FakeProber(), FakeReader(), "c.yaml")
    assert checked.later == ("server.port", "engine.context", "logLevel"), "and nothing that is as it would be anyway"
    (section,) = later_sections(checked.later)
    assert section.rows == (("server.port",), ("engine.context",), ("logLevel",))
    document = config_document("c.yaml", checked.configuration, None, (), later=checked.later)
    assert document["later"] == checked.later
    assert later_sections(()) == ()


def test_a_wrong_configuration_is_told_as_such() -> None:
    checked = check_configuration(FakeFiles(text="server: {}\nmodel: {}\n"), FakeProber(), FakeReader(), "c.yaml")
    assert checked.configuration is None
    assert checked.wrong is not None
    assert checked.wrong.message == "c.yaml, line 2: unknown setting 'model'"
    assert config_document("c.yaml", None, checked.wrong, ()) == {
        "schema": "bercail.config/1",
        "file": "c.yaml",
        "dialect": None,
        "wrong": {
            "schema": "bercail.error/1",
            "code": "unknown_setting",
            "message": "c.yaml, line 2: unknown setting 'model'",
            "hint": "did you mean models?",
        },
        "models": [],
        "routes": {},
        "profiles": {},
        "preload": (),
        "notes": [],
        "missing": [],
        "refused": [],
        "later": (),
        "cores": {},
    }


def test_a_file_that_cannot_be_read_is_no_verdict() -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        check_configuration(FakeFiles(text=""), FakeProber(), FakeReader(), "c.yaml")


def test_the_document_says_all_of_it() -> None:
    checked = check_configuration(FakeFiles(text=TEXT), FakeProber(), FakeReader(), "c.yaml")
    found = config_document("c.yaml", checked.configuration, checked.wrong, checked.missing)
    assert found["dialect"] == "bercail"
    shared = {"ttl_s": None, "keep": "normal", "priority": 0, "groups": ()}
    assert found["models"] == [
        {
            "id": "a", "line": 4, "kind": "file", "aliases": ("gpt", "x"), **shared, "path": "./a.gguf",
            "gpus": ("0", "1"), "wishes": {"context": 4096},
        },
        {
            "id": "b", "line": 5, "kind": "command", "aliases": (), **shared,
            "argv": ("llama-server", "--port", "5800", "-m", "/b.gguf"), "stop_argv": ("stop", "${PID}"),
            "environment": {"PATH": "/opt", "TEXT": "a b"}, "port": 5800, "url": "http://localhost:5800",
            "check_path": "/health", "ready_s": 120.0, "stop_s": 10.0,
        },
        {
            "id": "c", "line": 6, "kind": "elsewhere", "aliases": (), **shared, "argv": (), "stop_argv": (),
            "environment": {}, "port": None, "url": "https://far/v1", "check_path": "", "ready_s": 120.0,
            "stop_s": 10.0,
        },
        {
            "id": "d", "line": 7, "kind": "file", "aliases": (), **shared, "path": "known-id", "gpus": (), "wishes": {},
        },
    ]  # fmt: skip
    assert found["profiles"] == {"w": {"gpt": "big", "old": None}}
    assert found["routes"] == {
        **{name: {"way": "model", "id": "a", "model": ""} for name in ("a", "gpt", "x")},
        **{name: {"way": "model", "id": name, "model": ""} for name in ("b", "c", "d")},
        "s": {"way": "selector", "id": "s", "model": ""},
        **{name: {"way": "peer", "id": "p", "model": "big"} for name in ("p/big", "big")},
    }
    assert found["missing"] == [
        {"line": 4, "kind": "warning", "text": "models.a: there is no file ./a.gguf"},
        {"line": 5, "kind": "warning", "text": "models.b: there is no program llama-server"},
        {"line": 5, "kind": "warning", "text": "models.b: there is no file /b.gguf"},
    ]
    assert "s3cret" not in repr(found)


CORES = """
engine: {cores: auto}
models:
  a: {model: a}
  b: {model: b}
  c: {model: c, cores: 0-5}
  d: {cmd: "run --port ${PORT}"}
"""


def test_who_gets_which_cores_of_this_machine_is_told() -> None:
    checked = check_configuration(FakeFiles(text=CORES), FakeProber(), FakeReader(), "c.yaml")
    assert checked.configuration is not None
    sections = cores_sections(checked.shares, checked.at_odds)
    assert table(sections, "Cores of this machine") == (
        ("a", "6", "any", "auto: 1 core; b, c may be in memory beside it and have others"),
        ("b", "7", "any", "auto: 1 core; a, c may be in memory beside it and have others"),
    )
    ((text,),) = table(sections, "Cores at odds")
    assert text.startswith("d is kept to no cores")
    document = config_document("c.yaml", checked.configuration, None, (), checked.shares)
    because = "auto: 1 core; b, c may be in memory beside it and have others"
    assert document["cores"]["a"] == {"cpus": (6,), "node": None, "because": because, "refusal": None}  # type: ignore[index, call-overload]
    full = CORES.replace("0-5", "0-6")
    checked = check_configuration(FakeFiles(text=full), FakeProber(), FakeReader(), "c.yaml")
    assert [row[0] for row in table(cores_sections(checked.shares, checked.at_odds), "Cores of this machine")] == ["a"]
    assert checked.at_odds[0].startswith("b: cores auto: a, b need 2 shares")


def test_where_nobody_asks_for_a_share_nothing_is_said_of_cores() -> None:
    checked = check_configuration(FakeFiles(text=TEXT), FakeProber(), FakeReader(), "c.yaml")
    assert (checked.shares, cores_sections(checked.shares, checked.at_odds)) == ({}, ())


def test_a_context_beyond_the_models_own_and_a_damaged_model_are_wrong() -> None:
    text = "engine: {context: 9000}\nmodels:\n  a: {model: ./a.gguf, context: 10000}\n"
    text += "  b: {model: ./a.gguf, context: 1k}\n  c: {model: ./a.gguf}\n  d: {model: ./bad.gguf}\n"
    reader = FakeReader()
    for path in ("./a.gguf", "./bad.gguf"):
        reader.by_path[path] = Findings(models=(a_found(path),), looked=())
    reader.models[a_found("./a.gguf").path] = a_model("a")
    reader.refusals[a_found("./bad.gguf").path] = ReadError("cut short", path="./bad.gguf")
    files = FakeFiles(text=text, files=("./a.gguf", "./bad.gguf"))
    checked = check_configuration(files, FakeProber(), reader, "c.yaml")
    assert checked.configuration is not None
    assert checked.is_wrong
    rows = (
        ("3", "models.a: context 10,000 is more than the 8,192 tokens the model was trained for"),
        ("5", "models.c: context 9,000 is more than the 8,192 tokens the model was trained for"),
        ("6", "models.d: ./bad.gguf: cut short"),
    )
    sections = config_sections(checked.configuration, checked.missing)
    assert table(sections, "Cannot be served") == rows
    assert table(sections, "Not on this machine") == ()
    document = config_document("c.yaml", checked.configuration, None, checked.missing)
    assert document["missing"] == []
    assert document["refused"] == [{"line": int(line), "kind": "refused", "text": text} for line, text in rows]
