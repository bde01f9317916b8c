"""Macros: typed, each of earlier ones; the environment, replaced in the text."""

import pytest

from bercail.core.declared import Declared
from bercail.core.macros import as_text
from fakes.configuration import command, configuration, model, refused


def metadata(text: str) -> object:
    found: Declared = model(text)
    return dict(found.metadata)


def test_a_macro_is_replaced_in_every_value_of_a_model() -> None:
    found = model("""
        macros: {dir: /models, ctx: 4096}
        models:
          m:
            macros: {file: "${dir}/a.gguf"}
            cmd: run ${file} -c ${ctx}
            name: the ${ctx}
            description: "${MODEL_ID}"
            aliases: ["${MODEL_ID}-long"]
            proxy: http://host:1/${ctx}
            useModelName: "${file}"
    """)
    assert found.source.argv == ("run", "/models/a.gguf", "-c", "4096")  # type: ignore[union-attr] # a command
    assert (found.name, found.description, found.aliases) == ("the 4096", "m", ("m-long",))
    assert found.upstream_name == "/models/a.gguf"


def test_three_levels_and_a_model_of_its_own_value() -> None:
    text = """
        macros:
          a: 1
          b: "${a}-${MODEL_ID}"
          c: "<${b}>"
        models:
          m: {cmd: "run ${c}", proxy: http://h}
          n: {cmd: "run ${c}", proxy: http://h, macros: {a: 2}}
          o: {cmd: "run ${c}", proxy: http://h}
    """
    assert command(text, "m").argv == ("run", "<1-m>")
    assert command(text, "n").argv == ("run", "<2-n>")
    assert command(text, "o").argv == ("run", "<1-o>")


def test_a_macro_that_is_a_whole_value_keeps_its_type() -> None:
    assert metadata("""
        macros: {n: 8, t: 0.7, yes: true, text: x, word: "8"}
        models:
          m:
            cmd: run
            proxy: http://h
            metadata:
              n: ${n}
              deep: [{t: "${t}"}, "${yes}", "${text}"]
              word: ${word}
              longer: "${n}/${t}/${yes}"
              none: null
    """) == {
        "n": 8,
        "deep": ({"t": 0.7}, True, "x"),
        "word": "8",
        "longer": "8/0.7/true",
        "none": None,
    }


def test_numbers_and_truths_come_from_macros() -> None:
    found = configuration("""
        macros: {port: 6000, many: 3, off: false}
        startPort: ${port}
        models:
          m: {cmd: "run ${PORT}", concurrencyLimit: "${many}", unlisted: "${off}"}
    """)
    assert found.start_port == 6000
    assert found.models[0].concurrency_limit == 3
    assert not found.models[0].unlisted


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"), (False, "false"), (8, "8"), (-1, "-1"), (0.7, "0.7"), (1.0, "1"), (0.0, "0"),
        (100000.0, "100000"),
        (1000000.0, "1e+06"), (123456789.0, "1.23456789e+08"), (0.0001, "0.0001"), (0.00001, "1e-05"), ("x", "x"),
        (None, ""),
    ],
)  # fmt: skip
def test_numbers_are_written_as_llama_swap_writes_them(value: str | int | float | bool | None, text: str) -> None:
    assert as_text(value) == text


def test_comment_lines_of_a_command_are_no_macros() -> None:
    spec = command("""
        models:
          m:
            cmd: |
              run
                # --with ${nothing}
              --port ${PORT}
            cmdStop: |
              # ${nothing}
              stop ${PID} ${PORT}
    """)
    assert spec.argv == ("run", "--port", "5800")
    assert spec.stop_argv == ("stop", "${PID}", "5800")


def test_a_port_stands_in_every_field_of_a_model_that_uses_it() -> None:
    found = model("""
        startPort: 7000
        models:
          a: {cmd: "run ${PORT}"}
          m:
            cmd: run --listen ${PORT}
            cmdStop: stop ${PORT}
            proxy: http://other:${PORT}/v1
            env: ["WHERE=:${PORT}"]
            name: on ${PORT}
            metadata: {port: "${PORT}"}
            filters: {setParamsByID: {"m-${PORT}": {a: 1}}}
    """)
    assert found.source.port == 7001  # type: ignore[union-attr] # a command
    assert found.source.environment == {"WHERE": ":${PORT}"}  # type: ignore[union-attr]
    assert found.source.url == "http://other:${PORT}/v1"  # type: ignore[union-attr]
    assert found.source.stop_argv == ("stop", "${PORT}")  # type: ignore[union-attr]
    assert (found.name, found.metadata, found.aliases) == ("on 7001", {"port": 7001}, ("m-7001",))


def test_ports_are_given_in_the_order_of_the_ids() -> None:
    found = configuration("""
        macros: {here: "${PORT}"}
        models:
          c: {cmd: "run ${here}"}
          b: {cmd: run, proxy: http://h:1}
          a: {cmd: "run ${PORT} ${PORT}"}
    """)
    ports = {one.id: one.source.port for one in found.models}  # type: ignore[union-attr] # commands
    assert ports == {"c": 5801, "b": None, "a": 5800}


def test_macros_reach_what_is_not_a_model() -> None:
    found = configuration("""
        macros: {key: secret, host: far}
        models: {}
        apiKeys: ["${key}"]
        peers:
          p: {proxy: "https://${host}/x", models: [a], apiKey: "${key}", filters: {setParams: {a: "${key}"}}}
    """)
    assert found.gateway.api_keys == ("secret",)
    assert found.peers[0].url == "https://far/x"
    assert found.peers[0].command("a").headers == (("authorization", "Bearer secret"), ("x-api-key", "secret"))
    assert found.peers[0].filters.values == {"a": "secret"}


def test_macros_of_one_model_are_unknown_to_another() -> None:
    error = refused("""
        models:
          a: {cmd: "run ${x}", proxy: http://h, macros: {x: 1}}
          b: {cmd: "run ${x}", proxy: http://h}
    """)
    assert error.message == "c.yaml, line 4: unknown macro ${x} in models.b.cmd"


@pytest.mark.parametrize(
    ("macros", "line", "words", "hint"),
    [
        ("{a b: 1}", 1, "'a b' is no name", "letters"),
        ("{'': 1}", 1, "'' is no name", "letters"),
        (f"{{{'x' * 64}: 1}}", 1, "too long", "63"),
        ("{PORT: 1}", 1, "PORT is reserved", "another"),
        ("{MODEL_ID: 1}", 1, "MODEL_ID is reserved", "another"),
        ("{PID: 1}", 1, "PID is reserved", "another"),
        ("{a: [1]}", 1, "a must be a scalar, not a list", "one text"),
        ("{a: {b: 1}}", 1, "a must be a scalar, not a mapping", "one text"),
        ("{a: }", 1, "a must be a scalar, not nothing", "one text"),
        ("{a: 'x${a}'}", 1, "a uses itself", "its own"),
        ("{a: '${b}', b: 1}", 1, "unknown macro ${b} in a", "declared later, in line 1"),
        ("{a: 1, b: '${aa}'}", 1, "unknown macro ${aa} in macros.b", "known: a"),
        ("[a]", 1, "macros is a list", "name: value"),
    ],
)  # fmt: skip
def test_a_wrong_macro_is_refused(macros: str, line: int, words: str, hint: str) -> None:
    error = refused(f"macros: {macros}\nmodels: {{}}\n")
    assert f"line {line}: " in error.message
    assert words in error.message
    assert hint in error.hint
    own = refused(f"models:\n  m:\n    cmd: run\n    proxy: http://h\n    macros: {macros}\n")
    assert own.message.startswith("c.yaml, line 5: ")
    assert words.replace("macros", "models.m.macros") in own.message


@pytest.mark.parametrize(
    ("where", "name"),
    [
        ("cmd", "x"), ("cmdStop", "x"), ("proxy", "x"), ("checkEndpoint", "x"), ("name", "x"), ("description", "x"),
        ("useModelName", "x"), ("cmd", "PID"), ("name", "PORT"), ("checkEndpoint", "PID"), ("ttl", "x"),
    ],
)  # fmt: skip
def test_an_unknown_macro_is_refused_with_its_place(where: str, name: str) -> None:
    given = {"cmd": "run", "proxy": "http://h", where: f"${{{name}}}"}
    lines = "".join(f"    {key}: '{value}'\n" for key, value in given.items())
    error = refused(f"models:\n  m:\n{lines}")
    assert (
        error.message == f"c.yaml, line {list(given).index(where) + 3}: unknown macro ${{{name}}} in models.m.{where}"
    )


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("models:\n  m: {cmd: run, proxy: http://h, filters: {stripParams: '${x}'}}",
         "2: unknown macro ${x} in models.m.filters.stripParams", "known: MODEL_ID"),
        ("models:\n  m: {cmd: run, proxy: http://h, metadata: {a: [b, '${x}']}}", "models.m.metadata.a[1]", ""),
        ("models: {}\npeers:\n  p: {proxy: http://h, models: [a], apiKey: '${x}'}", "3: unknown macro ${x} in "
         "peers.p.apiKey", "there is none"),
        ("models: {}\npeers:\n  p: {proxy: 'http://${MODEL_ID}', models: [a]}", "peers.p.proxy",
         "only models have one"),
        ("macros: {a: 'x-${MODEL_ID}'}\nmodels: {}\napiKeys: ['${a}']", "3: unknown macro ${MODEL_ID} in apiKeys[0]",
         "only models have one"),
        ("macros: {a: '${PID}'}\nmodels:\n  m: {cmd: 'run ${a}', proxy: http://h}",
         "unknown macro ${PID} in models.m.cmd", "only cmdStop"),
        ("models: {}\nlogLevel: '${x}'", "2: unknown macro ${x} in logLevel", ""),
        ("models:\n  m:\n    proxy: http://h\n    cmd: |\n      run # ${env.X}",
         "4: unknown macro ${env.X} in models.m.cmd", "between quotes"),
        ("models:\n  m: {cmd: run, proxy: http://h, filters: {setParamsByID: {'${x}': {}}}}", "setParamsByID", ""),
    ],
)  # fmt: skip
def test_an_unknown_macro_is_refused_anywhere(text: str, message: str, hint: str) -> None:
    error = refused(text)
    assert message in error.message
    assert hint in error.hint
    assert error.code == "unknown_macro"


def test_macros_that_multiply_are_stopped() -> None:
    doubling = "\n".join(f"  m{number}: '{f'${{m{number - 1}}}' * 8}'" for number in range(1, 12))
    error = refused(f"macros:\n  m0: 0123456789\n{doubling}\nmodels: {{}}\n")
    assert "longer than 16 MiB" in error.message
    many = "\n".join(f"  m{number}: 'x${{m}}'" for number in range(400))
    error = refused(
        f"macros: {{m: {'y' * 50_000}}}\nmodels: {{}}\nhooks: {{on_startup: {{preload: []}}}}\nprofiles:\n{many}\n"
    )
    assert "longer than 16 MiB" in error.message


def test_names_of_parameters_take_macros_and_may_not_meet() -> None:
    found = model("""
        macros: {mood: calm}
        models:
          m:
            cmd: run
            proxy: http://h
            filters:
              setParamsByID: {"${MODEL_ID}:${mood}": {temperature: 0.1}, "${MODEL_ID}": {top_k: 1}}
    """)
    assert found.filters.by_name == {"m:calm": {"temperature": 0.1}, "m": {"top_k": 1}}
    assert found.aliases == ("m:calm",)
    error = refused("""
        models:
          m:
            cmd: run
            proxy: http://h
            filters:
              setParamsByID:
                "${MODEL_ID}": {a: 1}
                m: {b: 1}
    """)
    assert "line 9: models.m.filters.setParamsByID: m is given twice" in error.message
    assert error.hint == "it is already in line 8"


def test_the_environment_is_read_into_the_text() -> None:
    text = """
        # ${env.ABSENT}
        startPort: ${env.PORT0}   # and ${env.ABSENT}
        macros: {dir: "${env.DIR}"}
        apiKeys: ["${env.KEY}", x-${env.KEY}]
        models:
          m: {cmd: 'run "${env.KEY}" it#${env.KEY} "# ${env.KEY}"', proxy: http://h}
          # ${env.ABSENT}
    """
    environment = {"PORT0": "7000", "DIR": 'C:\\a "b"', "KEY": "k"}
    found = configuration(text, environment)
    assert found.start_port == 7000
    assert found.gateway.api_keys == ("k", "x-k")
    assert command(text, environment=environment).argv == ("run", "k", "it#k", "# k")


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b"])
def test_a_variable_of_several_lines_is_refused(value: str) -> None:
    error = refused("models: {}\nlogLevel: ${env.LEVEL}\n", {"LEVEL": value})
    assert error.message == "c.yaml, line 2: the environment variable LEVEL holds more than one line"


def test_a_variable_that_is_not_set_is_named() -> None:
    error = refused("models: {}\napiKeys: [a, '${env.MY_KEY}']\n")
    assert error.message == "c.yaml, line 2: the environment variable MY_KEY is not set"
    assert "MY_KEY" in error.hint


def test_backslashes_and_quotes_of_a_variable_stay_what_they_are_between_quotes() -> None:
    found = configuration('models: {}\napiKeys: ["${env.KEY}"]\n', {"KEY": 'a\\b"c'})
    assert found.gateway.api_keys == ('a\\b"c',)
