"""What a configuration says, key by key."""

import pytest

from bercail.core.configuration import (
    ASSETS,
    SESSION_HEADERS,
    Configuration,
    Gateway,
    Peer,
    Profile,
    Selector,
    Strategy,
    Target,
    Way,
    capture_bytes,
)
from bercail.core.declared import Capabilities, Declared, Filters, Keep, ModelFile, Timeouts
from bercail.core.groups import Group, Groups
from bercail.core.keys import parse_duration
from bercail.core.matrix import Matrix
from bercail.core.options import EngineOptions, ServerOptions
from bercail.core.tree import Dialect, NoteKind
from bercail.core.units import MIB
from fakes.configuration import command, configuration, model, notes, refused

RUN = "{cmd: run, proxy: http://h}"
SWAP = f"models:\n  m: {RUN}\n"


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ("", Dialect.BERCAIL),
        ("server: {port: 1}", Dialect.BERCAIL),
        ("engine.context: 4k", Dialect.BERCAIL),
        ("models:", Dialect.LLAMA_SWAP),
        (SWAP, Dialect.LLAMA_SWAP),
        ("startPort: 6000", Dialect.LLAMA_SWAP),
        (SWAP + "library: {offline: true}", Dialect.BERCAIL),
        (SWAP + "  n: {model: a.gguf}", Dialect.BERCAIL),
        (SWAP.replace("}", ", keep: pinned}"), Dialect.BERCAIL),
        (SWAP.replace("}", ", context: 4k}"), Dialect.LLAMA_SWAP),
        (SWAP + "common: &x {a: 1}", Dialect.LLAMA_SWAP),
    ],
)
def test_a_file_is_llama_swaps_if_nothing_in_it_is_ours(text: str, dialect: Dialect) -> None:
    assert configuration(text).dialect is dialect


def test_an_empty_file_says_nothing() -> None:
    assert configuration("") == Configuration()


def test_a_llama_swap_file_that_says_nothing_has_its_defaults() -> None:
    found = configuration("models: {}")
    assert found == Configuration(dialect=Dialect.LLAMA_SWAP, rule=Groups(groups=()))
    assert (found.start_port, found.gateway.log_level) == (5800, "info")
    spec = command("models: {m: {cmd: 'run ${PORT}'}}")
    assert (spec.ready_s, spec.stop_s, spec.check_path) == (120.0, 10.0, "/health")
    assert spec.url == "http://localhost:5800"


def test_every_key_at_the_top() -> None:
    found = configuration("""
        healthCheckTimeout: 300
        logLevel: WARN
        logTimeFormat: rfc3339
        logToStdout: both
        metricsMaxInMemory: 50
        captureBuffer: 0
        startPort: 6000
        sendLoadingState: on
        includeAliasesInList: true
        globalTTL: 600
        unloadTimeout: 20
        apiKeys: [one, 2]
        store: {path: /tmp/activity.db}
        ui: {activity: {session_id: [" X-Mine ", "", x-mine, Other]}}
        performance: {disabled: true, every: 1m30s}
        upstream: {ignorePaths: ['\\.css$']}
        hooks: {on_startup: {preload: [" n", m, m]}}
        models:
          m: {cmd: "run ${PORT}", aliases: [n]}
    """)
    assert found.gateway == Gateway(
        api_keys=("one", "2"),
        loading_state=True,
        aliases_listed=True,
        asset_paths=("\\.css$",),
        log_level="warn",
        log_time="rfc3339",
        log_output="both",
        capture_mb=0,
        store_path="/tmp/activity.db",
        session_headers=("X-Mine", "Other"),
        samples=False,
        sample_s=90.0,
    )
    declared = found.models[0]
    assert (declared.ttl_s, declared.loading_state) == (600.0, True)
    assert (declared.source.ready_s, declared.source.stop_s) == (300.0, 20.0)  # type: ignore[union-attr] # a command
    assert (found.start_port, found.preload, [note.line for note in found.notes]) == (6000, ("m",), [6])


def test_keys_without_a_value_have_their_default() -> None:
    found = configuration("""
        logLevel:
        apiKeys:
        upstream: {ignorePaths: []}
        ui: {activity: {session_id: }}
        store:
        metricsMaxInMemory: -3
        captureBuffer: -1
        models:
        macros:
        peers:
    """)
    assert found.gateway == Gateway(asset_paths=(ASSETS,), session_headers=SESSION_HEADERS, capture_mb=0)
    assert configuration("models:\nui: {activity: {session_id: []}}").gateway.session_headers == ()


def test_every_key_of_a_command() -> None:
    found = model("""
        models:
          m:
            cmd: |
              run --port ${PORT} \\
                # a comment
                --text "two words" 'and "quotes"' plain\\ blank \\
                --last
            cmdStop: stop ${PID}
            proxy: http://127.0.0.1:${PORT}/base
            checkEndpoint: ready
            env: [A=1, "B=x=y", "C="]
            aliases: [n, o, n]
            ttl: 60
            unloadTimeout: 7
            unlisted: true
            useModelName: other
            name: " Name "
            description: " Words "
            concurrencyLimit: 3
            filters:
              stripParams: " top_k, top_p,,top_k,model "
              setParams: {temperature: 0.5, stop: [a], deep: {b: null}, model: x}
              setParamsByID: {m: {a: 1}, "m:high": {b: 2}, n: {c: 3}}
            metadata: {owner: me, list: [1, two]}
            sendLoadingState: true
            timeouts: {connect: 1, keepalive: 2, responseHeader: 3, tlsHandshake: 4, expectContinue: 0, idleConn: 6}
            compat: {ignoreWebsockets: true}
            capabilities: {in: [text, image, text], out: [text], tools: true, reranker: yes, context: 4096}
    """)
    spec = command("models: {m: {cmd: 'run ${PORT}', checkEndpoint: none}}")
    assert spec.check_path == ""
    assert found == Declared(
        id="m",
        line=3,
        source=found.source,
        aliases=("n", "o", "m:high"),
        ttl_s=60.0,
        unlisted=True,
        upstream_name="other",
        name="Name",
        description="Words",
        concurrency_limit=3,
        filters=Filters(
            strip=("top_k", "top_p"),
            values={"temperature": 0.5, "stop": ("a",), "deep": {"b": None}},
            by_name={"m": {"a": 1}, "m:high": {"b": 2}, "n": {"c": 3}},
        ),
        metadata={"owner": "me", "list": (1, "two")},
        loading_state=True,
        timeouts=Timeouts(
            connect_s=1.0,
            keepalive_s=2.0,
            response_header_s=3.0,
            tls_handshake_s=4.0,
            expect_continue_s=None,
            idle_s=6.0,
        ),
        ignore_websockets=True,
        capabilities=Capabilities(
            inputs=("text", "image"), outputs=("text",), tools=True, reranker=True, context_tokens=4096
        ),
    )
    source = found.source
    assert not isinstance(source, ModelFile)
    assert source.argv == (
        "run", "--port", "${PORT}", "--text", "two words", 'and "quotes"', "plain blank", "--last"
    )  # fmt: skip
    assert (source.stop_argv, source.url) == (("stop", "${PID}"), "http://127.0.0.1:${PORT}/base")
    assert (source.environment, source.check_path) == ({"A": "1", "B": "x=y", "C": ""}, "/ready")
    assert (source.stop_s, source.port) == (7.0, 5800)


def test_times_to_live() -> None:
    text = "globalTTL: 30\nmodels:\n"
    for name, ttl in (("a", ""), ("b", ", ttl: -1"), ("c", ", ttl: 0"), ("d", ", ttl: 5")):
        text += f"  {name}: {{cmd: run, proxy: http://h{ttl}}}\n"
    assert {one.id: one.ttl_s for one in configuration(text).models} == {"a": 30.0, "b": 30.0, "c": None, "d": 5.0}
    assert model(SWAP).ttl_s is None
    assert (model(SWAP).timeouts, model(SWAP).capabilities) == (Timeouts(), Capabilities())


def test_no_time_to_unload_is_the_general_one() -> None:
    text = f"unloadTimeout: 0\nmodels:\n  m: {RUN.replace('}', ', unloadTimeout: 0}')}\n"
    assert command(text).stop_s == 10.0


def test_comfyui_asks_for_many_things_at_once() -> None:
    for limit, expected in (("", 50), (", concurrencyLimit: 5", 50), (", concurrencyLimit: 80", 80)):
        found = model(f"models: {{comfyui_auto: {{cmd: run, proxy: http://h{limit}}}}}", "comfyui_auto")
        assert (found.concurrency_limit, found.ignore_websockets) == (expected, True)


def test_anchors_and_merge_keys_work() -> None:
    found = configuration("""
        shared: &shared
          proxy: http://h
          ttl: 9
          unknown: "${nothing}"
        other: &other {ttl: 1, unlisted: true}
        models:
          a: {<<: *shared, cmd: run a}
          b: {<<: [*shared, *other], cmd: run b, ttl: 3}
    """)
    assert [(one.ttl_s, one.unlisted) for one in found.models] == [(9.0, False), (3.0, True)]
    assert {note.text for note in found.notes} == {
        "unknown key 'shared' is ignored",
        "unknown key 'other' is ignored",
        "unknown key 'unknown' in models.a is ignored",
        "unknown key 'unknown' in models.b is ignored",
    }


def test_our_own_files_keep_anchors_below_x() -> None:
    found = configuration("""
        x-shared: &shared {ttl: 9, keep: evictable}
        models:
          a: {<<: *shared, model: a.gguf}
    """)
    assert (found.models[0].ttl_s, found.models[0].keep) == (9.0, Keep.EVICTABLE)


def test_every_key_of_a_file() -> None:
    found = configuration("""
        server: {port: 9000}
        engine: {slots: 3}
        models:
          m:
            model: ~/models/a.gguf
            gpus: [1, 0, 1]
            keep: pinned
            priority: -2
            context: 32k
            kv: q8_0
            vision: no
            mtp: 2
            cores: 0-3
            slots:
            memory: 2 GiB
            aliases: [n]
          c: {cmd: "run ${PORT}", priority: 4}
          e: {proxy: "https://far.example/v1", unlisted: true}
          w: {proxy: "https://far.example/v1", checkEndpoint: /up}
        groups: {g: {members: [m, c], swap: false}}
    """)
    assert found.dialect is Dialect.BERCAIL
    declared, runs, far, watched = found.models
    assert declared.source == ModelFile(
        path="~/models/a.gguf",
        gpus=("1", "0"),
        wishes={
            "context": 32768, "kv": "q8_0", "vision": False, "mtp": 2, "cores": "0-3", "slots": None,
            "memory": 2 * 1024**3,
        },
    )  # fmt: skip
    assert declared.source.wish(EngineOptions(slots=3, threads=2)) == EngineOptions(
        context=32768, kv="q8_0", vision=False, mtp=2, cores="0-3", memory=2 * 1024**3, threads=2, gpus="1,0"
    )
    assert (declared.keep, declared.priority, declared.concurrency_limit) == (Keep.PINNED, -2, None)
    assert (runs.priority, runs.concurrency_limit) == (4, None)
    assert far.source.argv == ()  # type: ignore[union-attr] # a command
    assert (far.source.url, far.source.check_path) == ("https://far.example/v1", "")  # type: ignore[union-attr]
    assert watched.source.check_path == "/up"  # type: ignore[union-attr]
    assert found.rule == Groups(
        groups=(Group(name="g", members=("m", "c"), swap=False), Group(name="(default)", members=("e", "w")))
    )
    assert configuration("models: {m: {model: a.gguf}}").rule is None
    strict = configuration("server: {}\nhealthCheckTimeout: 5\nmodels: {m: {cmd: 'r ${PORT}', healthCheckTimeout: 3}}")
    assert strict.models[0].source.ready_s == 3.0  # type: ignore[union-attr] # a command
    assert strict.notes == ()


def test_the_router_may_stand_in_its_new_place() -> None:
    groups = "routing: {router: {settings: {groups: {g: {members: [m]}}}}}"
    assert configuration(SWAP + groups).rule == Groups(groups=(Group(name="g", members=("m",)),))
    both = "routing: {router: {use: %s, settings: {groups: {g: {members: [m]}}, matrix: {sets: {s: m}}}}}"
    assert isinstance(configuration(SWAP + both % "matrix").rule, Matrix)
    assert isinstance(configuration(SWAP + both % "group").rule, Groups)
    assert notes(SWAP + both % "group") == [(3, "routing.router.settings.matrix is ignored: the router uses groups")]
    assert isinstance(configuration(SWAP + "matrix: {sets: {s: m}}").rule, Matrix)


def test_priorities_are_the_models() -> None:
    text = """
        models:
          a: {cmd: run, proxy: http://h, aliases: [x]}
          b: {cmd: run, proxy: http://h}
        routing: {scheduler: {use: fifo, settings: {fifo: {priority: {x: 5}}}}}
    """
    found = configuration(text)
    assert [one.priority for one in found.models] == [5, 0]
    assert [note.text for note in found.notes] == [
        "routing.scheduler.settings.fifo.priority.x counts for a; an alias has no effect there in llama-swap"
    ]
    assert configuration("server: {}\n" + "\n".join(line[8:] for line in text.split("\n"))).notes == ()


FAR = """
models:
  a: {cmd: run, proxy: http://h, aliases: [x]}
  b: {cmd: run, proxy: http://h, aliases: [far/none]}
peers:
  far:
    proxy: https://far.example/api
    models: [big, shared, a, big]
    apiKey: secret
    filters: {stripParams: top_k, setParams: {user: me}}
    timeouts: {connect: 0, idleConn: 5}
  near: {proxy: "http://near:8080", models: [shared, org/deep]}
"""


def test_a_rule_is_for_models_that_are_here() -> None:
    text = """
        models: {a: {cmd: "s ${PORT}"}, b: {cmd: "s ${PORT}"}}
        peers: {far: {proxy: http://h, models: [x]}}
    """
    found = configuration(text)
    assert found.leaving("a", frozenset({"b", "far/x"})) == {"b"}
    assert found.leaving("far/x", frozenset({"a"})) == frozenset()
    assert configuration("server: {}\n").leaving("a", frozenset({"b"})) == frozenset()


def test_peers() -> None:
    found = configuration(FAR)
    assert found.peers == (
        Peer(
            id="far",
            line=6,
            url="https://far.example/api",
            models=("big", "shared", "a"),
            api_key="secret",
            filters=Filters(strip=("top_k",), values={"user": "me"}),
            timeouts=Timeouts(connect_s=None, response_header_s=60.0, idle_s=5.0),
        ),
        Peer(id="near", line=12, url="http://near:8080", models=("shared", "org/deep")),
    )
    assert "secret" not in repr(found)
    assert found.peers[1].timeouts.response_header_s == 60.0
    spec = found.peers[0].command("big")
    assert (spec.model_id, spec.argv, spec.url, spec.check_path) == ("far/big", (), "https://far.example/api", "")
    assert spec.headers == (("authorization", "Bearer secret"), ("x-api-key", "secret"))
    assert found.peers[1].command("shared").headers == ()


def test_names_lead_to_models_selectors_and_peers_in_this_order() -> None:
    found = configuration(FAR + "selectors: {any: {strategy: pin, targets: [a]}, big: {strategy: pin, targets: [a]}}\n")
    assert dict(found.routes()) == {
        "a": Target(way=Way.MODEL, id="a"),
        "x": Target(way=Way.MODEL, id="a"),
        "b": Target(way=Way.MODEL, id="b"),
        "far/none": Target(way=Way.MODEL, id="b"),
        "any": Target(way=Way.SELECTOR, id="any"),
        "big": Target(way=Way.SELECTOR, id="big"),
        "far/big": Target(way=Way.PEER, id="far", model="big"),
        "far/shared": Target(way=Way.PEER, id="far", model="shared"),
        "far/a": Target(way=Way.PEER, id="far", model="a"),
        "near/shared": Target(way=Way.PEER, id="near", model="shared"),
        "near/org/deep": Target(way=Way.PEER, id="near", model="org/deep"),
        "org/deep": Target(way=Way.PEER, id="near", model="org/deep"),
    }
    assert "shared" not in dict(found.routes())
    assert dict(configuration(FAR).routes())["big"] == Target(way=Way.PEER, id="far", model="big")


def test_selectors() -> None:
    found = configuration(
        FAR
        + """
groups: {g: {swap: false, members: [a, b]}}
selectors:
  warm: {strategy: warm, targets: [x, b]}
  pin:
    strategy: pin
    targets: [big, a]
    name: " N "
    description: " D "
    unlisted: true
    metadata: {a: 1}
  spill: {strategy: spillover, targets: [a, b, far/shared], settings: {spillover: 4}}
"""
    )
    assert found.selectors == (
        Selector(id="warm", line=16, strategy=Strategy.WARM, targets=("x", "b")),
        Selector(
            id="pin", line=17, strategy=Strategy.PIN, targets=("big", "a"), name="N", description="D", unlisted=True,
            metadata={"a": 1},
        ),
        Selector(
            id="spill", line=24, strategy=Strategy.SPILLOVER, targets=("a", "b", "far/shared"), spillover=4
        ),
    )  # fmt: skip


def test_a_selector_may_spill_over_what_a_matrix_allows_or_memory_decides() -> None:
    spill = "selectors: {s: {strategy: spillover, targets: [a, b, big]}}\n"
    assert configuration(FAR + "matrix: {sets: {s: a & b}}\n" + spill).selectors[0].spillover == 1
    assert configuration(FAR + "server: {}\n" + spill).selectors[0].targets == ("a", "b", "big")


def test_profiles() -> None:
    found = configuration(
        FAR
        + """
selectors: {any: {strategy: pin, targets: [a]}}
profiles:
  work:
    description: " At work "
    pins: {gpt: a, x: far/big, any: , old: "", small: any, b: x}
"""
    )
    assert found.profiles == (
        Profile(
            id="work",
            line=16,
            description="At work",
            pins={"gpt": "a", "x": "far/big", "any": None, "old": None, "small": "any", "b": "x"},
        ),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SWAP + "modles: {}", [(3, "unknown key 'modles' is ignored: did you mean models?")]),
        (SWAP + "zzz: {a: {b: '${c}'}}", [(3, "unknown key 'zzz' is ignored")]),
        (SWAP + "x-any: 1", []),
        (SWAP + "a.b: 1", [(3, "unknown key 'a.b' is ignored")]),
        (SWAP.replace("}", ", keepalive: 1, x: '${y}'}"), [
            (2, "unknown key 'keepalive' in models.m is ignored"), (2, "unknown key 'x' in models.m is ignored"),
        ]),
        (SWAP + "groups: {g: {members: [m], preload: true}}", [(3, "unknown key 'preload' in groups.g is ignored")]),
        (SWAP + "logRequests: true", [(3, "logRequests has no effect, as in llama-swap")]),
        (SWAP + "metricsMaxInMemory: 5", [
            (3, "metricsMaxInMemory has no effect: activity.days and activity.size bound the record of requests"),
        ]),
        (SWAP + "healthCheckTimeout: 5", [(3, "healthCheckTimeout is 15, as in llama-swap: 5 is less than it takes")]),
        (SWAP.replace("}", ", healthCheckTimeout: 5}"), [
            (2, "models.m.healthCheckTimeout counts here; llama-swap takes the general one"),
        ]),
        (SWAP + "hooks: {on_startup: {preload: [m, gone]}}", [
            (3, "hooks.on_startup.preload: no model 'gone', so nothing is loaded for it"),
        ]),
        (SWAP + "logLevel: loud", [
            (3, "logLevel: 'loud' is none of debug, info, warn, error; info is taken, as in llama-swap"),
        ]),
        (SWAP.replace("}", ", env: [A, =b, C=1]}"), [
            (2, "models.m.env[0]: 'A' is not NAME=VALUE and has no effect"),
            (2, "models.m.env[1]: '=b' is not NAME=VALUE and has no effect"),
        ]),
        (SWAP.replace("}", ", filters: {strip_params: 'a, model'}}"), [(2, "models.m.filters.strip_params: 'model' is "
         "left alone")]),
        (SWAP.replace("}", ", filters: {strip_params: a, stripParams: b}}"), [
            (2, "models.m.filters.strip_params is ignored: stripParams is there"),
        ]),
        (SWAP.replace("}", ", filters: {setParams: {model: x}, setParamsByID: {m: {model: y}, n: }}}"), [
            (2, "models.m.filters.setParamsByID.m: 'model' is left alone"),
            (2, "models.m.filters.setParams: 'model' is left alone"),
        ]),
    ],
)  # fmt: skip
def test_what_is_read_otherwise_is_told(text: str, expected: list[tuple[int, str]]) -> None:
    assert notes(text) == expected


def test_what_is_read_otherwise_counts_as_it_is_told() -> None:
    assert command(SWAP + "healthCheckTimeout: 5").ready_s == 15.0
    assert command(SWAP.replace("}", ", healthCheckTimeout: 5}")).ready_s == 5.0
    assert configuration(SWAP + "logLevel: loud").gateway.log_level == "info"
    assert "is taken" in notes(SWAP + "logTimeFormat: iso")[0][1]
    found = model(SWAP.replace("}", ", filters: {strip_params: 'a, model'}}"))
    assert found.filters == Filters(strip=("a",))
    kinds = {
        note.kind for note in configuration(SWAP + "zz: 1\nhooks: {on_startup: {preload: [x]}}\nlogLevel: x").notes
    }
    assert kinds == {NoteKind.IGNORED, NoteKind.WARNING, NoteKind.CHANGED}


@pytest.mark.parametrize(
    ("text", "seconds"), [("5s", 5.0), ("1m30s", 90.0), ("1.5h", 5400.0), ("250ms", 0.25), (".5s", 0.5), ("10us", 1e-5)]
)
def test_durations_are_gos(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


def test_side_requests_are_read_with_the_models_that_may_answer() -> None:
    found = configuration(
        """
        models:
          big: {cmd: big, proxy: "http://h:1"}
          tiny: {cmd: tiny, proxy: "http://h:2", aliases: [small]}
        side_requests:
          titles:
            {models: [small], clients: [open-webui], prompts: [title], names: [big], headers: {X-Job: 1},
             max_tokens: 64}
        """
    )
    assert found.dialect is Dialect.BERCAIL
    [rule] = found.side_rules
    assert (rule.id, rule.models, rule.clients, rule.prompts) == ("titles", ("tiny",), ("open-webui",), ("title",))
    assert (rule.names, rule.headers, rule.max_tokens) == (("big",), {"x-job": "1"}, 64)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("{models: [tiny]}", "would match every request"),
        ("{models: [tinny], max_tokens: 1}", "no model 'tinny'"),
        ("{names: [none], max_tokens: 1}", "no model 'none'"),
        ("{prompts: ['  ']}", "a text is empty"),
        ("{headers: {x: null}}", "headers.x is nothing"),
        ("{headers: {x: [1]}}", "headers.x is a list"),
        ("{clients: [webui]}", "webui"),
        ("{max_tokens: 0}", "less than 1"),
        ("{max_token: 1}", "unknown setting 'max_token'"),
    ],
)
def test_a_side_rule_that_cannot_be_meant_is_refused(rule: str, words: str) -> None:
    error = refused(f"models:\n  tiny: {{cmd: tiny, proxy: 'http://h:2'}}\nside_requests:\n  titles: {rule}\n")
    assert words in str(error)
    assert "line 4" in str(error)


@pytest.mark.parametrize("asked", ["[none]", "[CUDA0, 1]", "[Vulkan1]"])
def test_gpus_are_numbers_or_the_names_that_engines_have_for_them(asked: str) -> None:
    source = model(f"models: {{m: {{model: a.gguf, gpus: {asked}}}}}").source
    assert isinstance(source, ModelFile)
    assert source.wish(EngineOptions()).gpus == asked.strip("[]").replace(" ", "")


@pytest.mark.parametrize("asked", ["[the big one]", "[-1]", "[none, 0]", "[1.5]"])
def test_what_is_no_gpu_is_refused_with_its_line(asked: str) -> None:
    error = refused(f"models:\n  m:\n    model: a.gguf\n    gpus: {asked}\n")
    assert "c.yaml, line 4: models.m.gpus: " in str(error)
    assert "is no number of a GPU" in str(error)


@pytest.mark.parametrize(
    ("text", "set_mib", "kept_mib"),
    [("", 0, 0), ("captureBuffer: 7", 0, 7), ("captureBuffer: 0", 0, 0), ("captureBuffer: 7", 9, 9)],
)
def test_texts_are_kept_only_where_somebody_says_so(text: str, set_mib: int, kept_mib: int) -> None:
    found = configuration(f"models: {{}}\n{text}\n")
    assert capture_bytes(ServerOptions(capture=set_mib * MIB), found.gateway) == kept_mib * MIB
