"""The JSON schema that is shipped says what the reader takes."""

import json
from pathlib import Path
from textwrap import dedent

import jsonschema
import pytest

import bercail.store
from bercail.core.config_keys import MODEL, TOP
from bercail.core.config_schema import configuration_schema
from bercail.core.errors import SettingsError
from bercail.core.options import every_option
from bercail.core.tree import plain
from bercail.store.contents import read_contents
from bercail.store.yaml_tree import parse_tree

SHIPPED = Path(bercail.store.__file__).parent / "bercail.schema.json"

GOOD = [
    "",
    """
    server: {port: 9000, body_limit: 32 MiB, drain: 1m}
    library.folders: [/srv/models]
    engine: {context: 32k, mmap: no, slots: }
    x-shared: {anything: [1]}
    models:
      a: {model: a.gguf, context: 8192, kv: q8_0, keep: pinned, gpus: [0], priority: 3, vision: yes, memory: 2 GiB}
      b: {cmd: "run ${PORT}", env: ["A=1"], ttl: 60, capabilities: {in: [text, image], context: 4096}}
      c: {proxy: "https://far/v1", timeouts: {connect: 5}}
    groups: {g: {members: [a, b], swap: false}}
    """,
    """
    macros: {port: 6000, many: 3}
    startPort: ${port}
    models:
      m:
        cmd: run
        proxy: http://h
        concurrencyLimit: ${many}
        filters: {stripParams: a, setParams: {a: 1}, setParamsByID: {"m:x": {b: [1]}}}
        metadata: {any: {thing: [1, null]}}
    matrix: {vars: {x: m}, evict_costs: {x: 2}, sets: {s: x}}
    peers: {p: {proxy: http://h, models: [a]}}
    selectors: {s: {strategy: spillover, targets: [m], settings: {spillover: 2}}}
    profiles: {w: {pins: {a: m, b: }}}
    hooks: {on_startup: {preload: [m]}}
    performance: {every: 15s}
    """,
]
BAD = [
    "startPort: many",
    "startPort: 0",
    "apiKeys: x",
    "modles: {}",
    "server: {prot: 1}",
    "server: {port: 70000}",
    "server.port: many",
    "models: {m: {model: a.gguf, keep: hot}}",
    "models: {m: {model: a.gguf, contxt: 4k}}",
    "models: {m: {model: a.gguf, slots: 0}}",
    "models: {m: {model: a.gguf, kv: q9}}",
    "models: {m: {cmd: [run]}}",
    "models: {m: {name: x, keep: pinned}}",
    "models: {m: {cmd: run, proxy: http://h, keep: pinned, unlisted: perhaps}}",
    "models: {m: {cmd: run, proxy: http://h, keep: pinned, filters: {strip: a}}}",
    "models: {m: {cmd: run, proxy: http://h, keep: pinned, capabilities: {in: [smell]}}}",
    "models: {m: {cmd: run, proxy: http://h}}\nselectors: {s: {targets: [m]}}",
    "models: {m: {cmd: run, proxy: http://h}}\nselectors: {s: {strategy: best, targets: [m]}}",
    "peers: {p: {proxy: http://h}}",
    "profiles: {p: [a]}",
    "routing: {router: {use: lru}}",
]


def documented(text: str) -> object:
    """The text as an editor sees it."""
    return json.loads(json.dumps(plain(parse_tree(dedent(text), "c.yaml"))))


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(json.dumps(configuration_schema()))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_schema_that_is_shipped_is_that_of_the_reader() -> None:
    assert json.loads(SHIPPED.read_text()) == json.loads(json.dumps(configuration_schema()))


@pytest.mark.parametrize("text", GOOD)
def test_what_the_reader_takes_is_valid(validator: jsonschema.Draft202012Validator, text: str) -> None:
    read_contents(dedent(text), origin="c.yaml", environment={})
    assert not list(validator.iter_errors(documented(text)))


@pytest.mark.parametrize("text", BAD)
def test_what_the_reader_refuses_is_invalid(validator: jsonschema.Draft202012Validator, text: str) -> None:
    with pytest.raises(SettingsError, match=r"c\.yaml, line [12]: "):
        read_contents(text if text.startswith("server") else f"{text}\nserver: {{}}", origin="c.yaml", environment={})
    assert not validator.is_valid(documented(text))


def test_every_key_and_setting_is_in_the_schema_with_words() -> None:
    properties = configuration_schema()["properties"]
    assert isinstance(properties, dict)
    assert {key.name for key in TOP} | {spec.key for spec in every_option()} <= set(properties)
    models = json.loads(json.dumps(properties["models"]))
    assert set(models["additionalProperties"]["properties"]) == {key.name for key in MODEL}
    for entry in models["additionalProperties"]["properties"].values():
        assert entry["description"].endswith(".")


def test_the_published_configurations_are_valid(validator: jsonschema.Draft202012Validator, shared: Path) -> None:
    paths = sorted((shared / "fixtures" / "configs").glob("*.llama-swap.yaml"))
    assert len(paths) == 2
    for path in paths:
        validator.validate(documented(path.read_text()))
