from dataclasses import replace

import pytest

from bercail.core.config_document import declared_document
from bercail.core.config_report import declared_section
from bercail.core.errors import NotFoundError, ReadError, RefusedError, UsageError
from bercail.core.model import Capability, Findings, Format, Role
from bercail.core.options import EngineOptions, LibraryOptions, Settings
from bercail.flows import inspect
from bercail.flows.inspect import listed, resolve, search, troubles
from fakes.configuration import configuration
from fakes.house import Fakes, run
from fakes.models import a_found, a_model


def fakes() -> Fakes:
    made = Fakes(settings=Settings(library=LibraryOptions(folders=("/mine",))))
    made.add("a", "b")
    return made


def test_an_id_is_looked_up_in_the_folders_of_the_settings() -> None:
    made = fakes()
    assert run(lambda: inspect(made.house(), "b")).path == "/m/b.gguf"
    assert made.reader.searches == [((), ("/mine",))]


def test_a_projector_found_beside_a_model_is_read_with_it() -> None:
    made = fakes()
    made.reader.by_path["/m/a.gguf"] = Findings(models=(a_found("a", projector="/m/mmproj.gguf"),), looked=())
    run(lambda: inspect(made.house(), "/m/a.gguf"))
    assert made.reader.read_paths == [("/m/a.gguf", "/m/mmproj.gguf")]


@pytest.mark.parametrize("name", ["/m/x", "./x", "~/x", "x.gguf"])
def test_what_looks_like_a_path_is_not_searched_for_elsewhere(name: str) -> None:
    made = fakes()
    made.reader.by_path[name] = Findings(models=(a_found("x"),), looked=())
    assert resolve(made.reader, name, ("/mine",)).id == "x"
    assert made.reader.searches == [((name,), ())]


def test_a_name_that_is_no_id_may_still_be_a_folder() -> None:
    made = fakes()
    made.reader.by_path["models"] = Findings(models=(a_found("x"),), looked=())
    assert resolve(made.reader, "models", ()).id == "x"


def test_nothing_found_is_refused_with_what_reading_it_says() -> None:
    with pytest.raises(ReadError, match="/m/absent: no such file"):
        resolve(fakes().reader, "/m/absent", ())


def test_nothing_found_where_reading_finds_no_fault_says_where_was_looked() -> None:
    made = fakes()
    made.reader.models["/m"] = a_model()
    made.reader.by_path["/m"] = Findings(models=(), looked=("/m: empty",), problems=("/m/x: no permission",))
    with pytest.raises(NotFoundError) as caught:
        resolve(made.reader, "/m", ())
    assert (caught.value.message, caught.value.hint) == ("no model at /m", "/m/x: no permission; /m: empty")


def test_several_models_are_named_so_that_one_can_be_chosen() -> None:
    made = fakes()
    made.reader.by_path["/m"] = made.reader.findings
    with pytest.raises(NotFoundError) as caught:
        resolve(made.reader, "/m", ())
    assert (caught.value.message, caught.value.hint) == ("/m holds 2 models", "name one of them: a, b")


def test_of_many_models_the_first_are_named() -> None:
    made = fakes()
    made.reader.by_path["/m"] = Findings(models=tuple(a_found(f"m{number}") for number in range(40)), looked=())
    with pytest.raises(NotFoundError, match="/m holds 40 models") as caught:
        resolve(made.reader, "/m", ())
    assert caught.value.hint.endswith("m10, m11, ... (40 in all)")


def test_a_file_that_cannot_be_read_is_refused_with_its_own_words() -> None:
    made = fakes()
    made.reader.refusals["/m/a.gguf"] = ReadError("cut", path="/m/a.gguf")
    with pytest.raises(ReadError, match="cut"):
        run(lambda: inspect(made.house(), "a"))


def test_a_name_that_is_nearly_an_id_is_asked_about() -> None:
    made = Fakes()
    made.add("stories")
    with pytest.raises(NotFoundError) as refused:
        resolve(made.reader, "storis", ())
    assert refused.value.hint == "did you mean stories?"


def test_a_name_that_is_like_none_is_told_which_there_are() -> None:
    made = fakes()
    with pytest.raises(NotFoundError, match="no model 'qwen', and no file of that name") as refused:
        resolve(made.reader, "qwen", ())
    assert refused.value.hint == "there are a, b (bercail models); or name a file"
    with pytest.raises(NotFoundError) as refused:
        resolve(Fakes().reader, "qwen", ())
    assert refused.value.hint == "no model is found (bercail models); or name a file"


def test_a_name_in_quotes_is_a_path_that_leads_nowhere() -> None:
    with pytest.raises(ReadError, match=r"'qwen\.gguf': no such file"):
        resolve(fakes().reader, "'qwen.gguf'", ())


def test_a_path_that_leads_nowhere_stays_a_path() -> None:
    with pytest.raises(ReadError, match="models/qwen: no such file"):
        resolve(fakes().reader, "models/qwen", ())


@pytest.mark.parametrize("name", ["Qwen/Qwen3-8B", "hf.co/Qwen/Qwen3-8B-GGUF:Q4_K_M", "qwen3:8b"])
def test_the_name_of_a_model_that_other_programs_would_download_is_told_so(name: str) -> None:
    with pytest.raises((ReadError, NotFoundError)) as refused:
        resolve(fakes().reader, name, ())
    assert "models are not downloaded here" in refused.value.hint
    with pytest.raises(ReadError) as refused:
        resolve(fakes().reader, "./models/qwen", ())
    assert "downloaded" not in refused.value.hint


def test_of_many_names_some_are_told_and_how_many_there_are() -> None:
    assert listed(()) == "none"
    assert listed([str(number) for number in range(13)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ... (13 in all)"


def test_a_search_reads_every_header_and_says_what_is_wrong_with_it() -> None:
    made = fakes()
    made.reader.refusals["/m/a.gguf"] = ReadError("cut", path="/m/a.gguf", offset=7)
    assert [(found.id, found.damage) for found in search(made.house(), ()).models] == [("a", "byte 7: cut"), ("b", "")]
    made.reader.refusals["/m/b.gguf"] = ReadError("empty", path="/m/b.gguf")
    assert [found.damage for found in search(made.house(), ()).models] == ["byte 7: cut", "empty"]
    assert made.reader.searches[0] == ((), ("/mine",))


def test_a_search_says_what_goes_only_with_another_model() -> None:
    made = Fakes()
    made.add("a")
    made.reader.models["/m/a.gguf"] = a_model("a", path="/m/a.gguf", role=Role.ADAPTER)
    (found,) = search(made.house(), ()).models
    assert found.damage is not None
    assert found.damage.startswith("is an adapter, not a model that can be served alone")


ADDRESS = "https://hub.example/m/a.gguf"


def test_an_address_is_read_where_it_is() -> None:
    made = fakes()
    made.reader.models[ADDRESS] = a_model("remote")
    assert run(lambda: inspect(made.house(), ADDRESS)).id == "remote"
    assert made.reader.searches == []


def test_an_address_is_refused_where_settings_forbid_to_ask_others() -> None:
    made = Fakes(settings=Settings(library=LibraryOptions(offline=True)))
    with pytest.raises(RefusedError, match="offline is set"):
        run(lambda: inspect(made.house(), ADDRESS))
    assert made.reader.read_paths == []


@pytest.mark.parametrize("name", ["http:/host/m.gguf", "HTTPS:host/m.gguf"])
def test_an_address_with_a_slash_too_few_is_told(name: str) -> None:
    with pytest.raises(UsageError, match="is no address of a file"):
        run(lambda: inspect(Fakes().house(), name))


DECLARING = """
    models:
      sound: {model: /m/a.gguf, aliases: [s]}
      cut: {model: b}
      gone: {model: /m/gone.gguf}
      program: {cmd: "server --port ${PORT}"}
    peers:
      far: {proxy: "http://far", models: [big]}
"""


def test_declared_models_are_listed_with_what_keeps_them_from_being_served() -> None:
    made = fakes()
    made.reader.by_path["/m/a.gguf"] = Findings(models=(a_found("a"),), looked=())
    made.reader.refusals["/m/b.gguf"] = ReadError("cut", path="/m/b.gguf", offset=7)
    declared = configuration(DECLARING)
    house = replace(made.house(), configuration=declared)
    found = troubles(house)
    assert found == {"sound": "", "cut": "byte 7: cut", "gone": "/m/gone.gguf: no such file"}
    rows = declared_section(declared, found).rows
    assert [(row[0], row[1], row[2], row[4]) for row in rows] == [
        ("sound", "s", "file", "yes"), ("cut", "", "file", "no: byte 7: cut"),
        ("gone", "", "file", "no: /m/gone.gguf: no such file"), ("program", "", "command", "not tried"),
        ("far/big", "", "elsewhere", "not tried"),
    ]  # fmt: skip
    document = declared_document(declared, found)
    assert document[1] == {"id": "cut", "aliases": (), "kind": "file", "trouble": "byte 7: cut"}
    assert document[4] == {"id": "far/big", "aliases": (), "kind": "elsewhere", "trouble": None}


@pytest.mark.parametrize(
    ("changes", "wish", "capabilities"),
    [
        ({"capabilities": (Capability.COMPLETION,)}, {}, ["chat", "completion"]),
        ({"capabilities": (Capability.COMPLETION,), "format": Format.OPENVINO}, {}, ["completion"]),
        ({"capabilities": (Capability.COMPLETION,)}, {"embedding": True}, ["embeddings"]),
        ({"capabilities": (Capability.CHAT, Capability.VISION)}, {"vision": False}, ["chat"]),
        ({"role": Role.PROJECTOR, "capabilities": ()}, {}, []),
    ],
)
def test_a_model_is_said_to_offer_what_a_server_would_offer_of_it(
    changes: dict[str, object], wish: dict[str, object], capabilities: list[str]
) -> None:
    made = fakes()
    made.settings = Settings(engine=EngineOptions(**wish))  # type: ignore[arg-type] # a table
    made.reader.models["/m/a.gguf"] = replace(a_model("a"), **changes)  # type: ignore[arg-type] # likewise
    assert [one.value for one in run(lambda: inspect(made.house(), "a")).capabilities] == capabilities


def test_an_empty_name_is_not_the_folder_that_one_is_in() -> None:
    made = fakes()
    for attempt in (lambda: resolve(made.reader, "", ()), lambda: search(made.house(), ("a", " "))):
        with pytest.raises(UsageError, match="the name of a model is empty"):
            attempt()
    assert made.reader.searches == []
