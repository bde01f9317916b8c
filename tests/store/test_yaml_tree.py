"""YAML as a tree with lines: typed as YAML 1.2 does, aliases resolved, bombs refused."""

import pytest

from bercail.core.errors import SettingsError
from bercail.core.tree import EMPTY, Fields, Scalar, Value, plain
from bercail.store.yaml_tree import parse_tree


def refusal(text: str) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        parse_tree(text, "c.yaml")
    return caught.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x", "x"), ("8", 8), ("-8", -8), ("+8", 8), ("1_000", 1000), ("0x1F", 31), ("0b101", 5), ("0o17", 15),
        ("017", 15), ("-017", -15), ("089", 89.0), ("1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("1e3", 1000.0), ("0", 0),
        ("true", True), ("FALSE", False), ("yes", "yes"), ("no", "no"), ("on", "on"), ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"), ("~", None), ("null", None), ("", None), ("'8'", "8"), ('"true"', "true"),
        ("!!str 8", "8"), ("!!int 8", 8), ("!!float 1", 1.0), (".inf", ".inf"), (".nan", ".nan"), ("1e999", "1e999"),
        ("9" * 41, "9" * 41), ("<x", "<x"), ("|\n  a\n  b\n", "a\nb\n"), (">\n  a\n  b\n", "a b\n"), ("0b2", "0b2"),
    ],
)  # fmt: skip
def test_words_are_typed_as_yaml_1_2_types_them(text: str, value: Value) -> None:
    found = parse_tree(f"a: {text}", "c.yaml").get("a")
    assert isinstance(found, Scalar)
    assert found.value == value
    assert type(found.value) is type(value)


def test_everything_has_its_line() -> None:
    tree = parse_tree("a: 1\nb:\n  - x\n  - y: 2\nc: |\n  text\n", "c.yaml")
    assert [(entry.name, entry.line, entry.node.line) for entry in tree.entries] == [
        ("a", 1, 1), ("b", 2, 3), ("c", 5, 5),
    ]  # fmt: skip
    assert plain(tree) == {"a": 1, "b": ("x", {"y": 2}), "c": "text\n"}


@pytest.mark.parametrize("text", ["", "# nothing", "---", "null", "~"])
def test_nothing_is_an_empty_mapping(text: str) -> None:
    assert parse_tree(text, "c.yaml") == EMPTY


def test_aliases_and_merge_keys() -> None:
    tree = parse_tree(
        "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {z: 0, <<: [*a, {x: 9, w: 5}]}\nd: [*a]\n'<<': 1\n", "c.yaml"
    )
    assert plain(tree) == {
        "a": {"x": 1, "y": 2},
        "b": {"y": 3, "x": 1},
        "c": {"z": 0, "x": 1, "y": 2, "w": 5},
        "d": ({"x": 1, "y": 2},),
        "<<": 1,
    }
    merged = tree.get("b")
    assert isinstance(merged, Fields)
    assert [(entry.name, entry.line) for entry in merged.entries] == [("y", 2), ("x", 1)]


def bomb(depth: int) -> str:
    return "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, depth))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: a is given twice"),
        ("a:\n  b: 1\n  b: 2\n", "line 3: a.b is given twice"),
        ("a: [{b: 1,\n  b: 2}]\n", "line 2: a[0].b is given twice"),
        ("a: &a {b: *a}\n", "line 1: a.b holds itself"),
        ("a: &a\n  - *a\n", "line 1: a[0] holds itself"),
        ("a: {<<: 1}\n", "line 1: << merges mappings alone"),
        ("a: {<<: [1]}\n", "line 1: << merges mappings alone"),
        ("a: &a {<<: *a}\n", "line 1: a.<< holds itself"),
        ("a: !mine 1\n", "line 1: the tag !mine is not known"),
        ("a: !!int x\n", "line 1: 'x' is no int"),
        ("a: !!binary aGk=\n", "line 1: the tag tag:yaml.org,2002:binary is not known"),
        ("? {a: b}\n: c\n", "line 1: a name must be a word"),
        ("a: " + "[" * 80 + "]" * 80, "line 1: more than 60 lists and mappings in each other"),
        ("[" * 5000, "c.yaml: this cannot be read as YAML"),
        ("- a\n", "line 1: the file holds no settings"),
        ("a\n", "line 1: the file holds no settings"),
        ("a: *b\n", "line 1: found undefined alias"),
        (bomb(7), "line 6: this holds more than 200,000 values"),
        ("a: &m {x: [1, 2]}\n" + bomb(6) + "b: {<<: [{y: *a5}, {z: *a5}]}\n", "this holds more than 200,000 values"),
    ],
)
def test_what_is_no_tree_is_refused_with_its_line(text: str, message: str) -> None:
    assert message in refusal(text).message


def test_a_tab_that_indents_is_told_as_one() -> None:
    error = refusal("models:\n\ta: 1\n")
    assert "line 2" in error.message
    assert error.hint == "a tab stands there: indent with spaces"
    assert refusal('a: "\\q"\n').hint == "this is not YAML"


def test_aliases_that_stay_small_are_no_bomb() -> None:
    assert parse_tree(bomb(5), "c.yaml").names == ("a0", "a1", "a2", "a3", "a4")
