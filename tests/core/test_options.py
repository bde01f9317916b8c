import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.core.errors import SettingsError
from bercail.core.option import Kind, Option, read_value
from bercail.core.options import GROUPS, Settings, every_option, options_of, unknown_key

OPTIONS = every_option()
BY_KEY = {spec.key: spec for spec in OPTIONS}


@pytest.mark.parametrize("spec", OPTIONS, ids=lambda spec: spec.key)
def test_every_option_has_a_sentence_of_help_and_a_default_within_its_bounds(spec: Option) -> None:
    assert spec.help.endswith(".")
    assert spec.help[0].isupper()
    assert (spec.kind is Kind.CHOICE) == bool(spec.choices)
    if isinstance(spec.default, int | float) and not isinstance(spec.default, bool):
        assert spec.minimum is None or spec.default >= spec.minimum
        assert spec.maximum is None or spec.default <= spec.maximum


@pytest.mark.parametrize("spec", OPTIONS, ids=lambda spec: spec.key)
def test_every_default_can_be_written_down_and_read_back(spec: Option) -> None:
    if spec.default is not None:
        assert read_value(spec, spec.default, origin="x") == spec.default


def test_keys_variables_and_flags_are_unique() -> None:
    for names in ([o.key for o in OPTIONS], [o.variable for o in OPTIONS], [o.flag for o in OPTIONS]):
        assert len(set(names)) == len(names)


def test_an_option_is_named_the_same_way_everywhere() -> None:
    spec = BY_KEY["engine.kv_type_k"]
    assert (spec.variable, spec.flag) == ("BERCAIL_ENGINE_KV_TYPE_K", "--kv-type-k")


def test_the_groups_declare_what_the_settings_hold() -> None:
    held = Settings()
    declared = {group: [spec.name for spec in options_of(group)] for group in GROUPS}
    assert [type(held.server), type(held.library), type(held.engine), type(held.activity)] == list(GROUPS)
    for group in (held.server, held.library, held.engine, held.activity):
        for name in declared[type(group)]:
            assert BY_KEY[f"{next(options_of(type(group))).group}.{name}"].default == getattr(group, name)


@pytest.mark.parametrize(
    ("key", "raw", "value"),
    [
        ("server.host", " 0.0.0.0 ", "0.0.0.0"), ("server.port", "8080", 8080), ("server.port", 0, 0),
        ("server.body_limit", "1 MiB", 1 << 20), ("engine.context", "32k", 32768), ("engine.context", 4096, 4096),
        ("server.drain", "2m", 120.0), ("server.drain", 0, 0.0), ("engine.mmap", "off", False),
        ("engine.mmap", "Yes", True), ("engine.mmap", True, True), ("engine.kv_type_k", "q8_0", "q8_0"),
        ("library.folders", "/a:/b", ("/a", "/b")), ("library.folders", ["/a b", "/c"], ("/a b", "/c")),
        ("library.folders", "", ()),
    ],
)  # fmt: skip
def test_values_are_read_from_text_and_from_yaml(key: str, raw: object, value: object) -> None:
    assert read_value(BY_KEY[key], raw, origin="here") == value


@pytest.mark.parametrize(
    ("key", "raw", "words"),
    [
        ("server.port", "http", "'http' is not a count"), ("server.port", "70000", "more than 65535"),
        ("server.port", -1, "less than 0"), ("server.port", 4.5, "not a count"), ("server.port", True, "not a count"),
        ("engine.mmap", "maybe", "'maybe' is not a flag"), ("engine.context", "lots", "number of tokens"),
        ("engine.context", "0", "less than 1"), ("engine.memory", "1k", "less than 64.0 MiB"),
        ("engine.kv_type_k", "q3_k", "none of f32, f16"), ("server.drain", "soon", "duration"),
        ("server.host", None, "no value"), ("library.folders", None, "no value"), ("server.host", ["a"], "a list"),
        ("server.host", {"a": 1}, "a mapping"), ("engine.context", [1], "a list"),
        ("library.folders", [None], "no value"),
    ],
)  # fmt: skip
def test_what_is_no_value_is_refused_naming_where_and_which(key: str, raw: object, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_value(BY_KEY[key], raw, origin="settings.yaml line 3")
    assert caught.value.message.startswith(f"settings.yaml line 3: {key}: ")
    assert words in caught.value.message
    assert caught.value.hint == BY_KEY[key].help


@given(st.sampled_from(OPTIONS), st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.lists(st.text())))
def test_anything_written_is_read_or_refused_in_words(spec: Option, raw: object) -> None:
    try:
        answer = read_value(spec, raw, origin="env")
    except SettingsError as error:
        answer = error.message
        refused = True
    else:
        refused = False
    assert answer is not None
    assert not refused or str(answer).startswith(f"env: {spec.key}: ")


@pytest.mark.parametrize("name", ["prot", "Port", "ports"])
def test_an_unknown_key_names_the_nearest_known_one(name: str) -> None:
    error = unknown_key(name, ("host", "port"), origin="settings.yaml")
    assert error.message == f"settings.yaml: unknown setting {name!r}"
    assert (error.hint, error.code) == ("did you mean port?", "unknown_setting")


def test_an_unknown_key_near_to_nothing_is_told_what_is_known() -> None:
    assert unknown_key("zzz", ("host", "port"), origin="x").hint == "known: host, port"


@pytest.mark.parametrize(("text", "number"), [("12.5", 12.5), ("3", 3.0)])
def test_a_number_may_have_a_fraction(text: str, number: float) -> None:
    spec = next(spec for spec in every_option() if spec.key == "engine.min_speed")
    assert read_value(spec, text, origin="here") == number


@pytest.mark.parametrize("text", ["nan", "inf", "fast", "0", "-1"])
def test_a_number_is_finite_and_within_its_bounds(text: str) -> None:
    spec = next(spec for spec in every_option() if spec.key == "engine.min_speed")
    with pytest.raises(SettingsError):
        read_value(spec, text, origin="here")


def test_a_key_that_has_moved_is_told_by_its_new_name() -> None:
    assert unknown_key("models.folders", ("library.folders",), origin="here").hint == "it is called library.folders now"


@pytest.mark.parametrize(("text", "meant"), [("coding", "; did you mean coding-agent?"), ("poetry", "")])
def test_a_word_that_is_nearly_a_choice_is_asked_about(text: str, meant: str) -> None:
    spec = next(spec for spec in every_option() if spec.key == "engine.purpose")
    with pytest.raises(SettingsError) as refused:
        read_value(spec, text, origin="here")
    assert refused.value.message.endswith("batch, embedding" + meant)


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        ("--context", "--context: 'abc' is not a number of tokens, such as 4096 or 32k"),
        ("environment: BERCAIL_ENGINE_CONTEXT", "environment: BERCAIL_ENGINE_CONTEXT: 'abc' is not a number"),
        ("c.yaml, line 3", "c.yaml, line 3: engine.context: 'abc' is not a number"),
    ],
)
def test_a_wrong_value_is_named_once(origin: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_value(BY_KEY["engine.context"], "abc", origin=origin)
    assert caught.value.message.startswith(words)
