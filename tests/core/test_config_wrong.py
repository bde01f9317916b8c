"""What is wrong with a configuration is told with its line and what to do; all of it that is independent."""

import pytest

from fakes.configuration import configuration, refused

MODEL = "models:\n  m: {cmd: run, proxy: http://h}\n"
TWO = "models:\n  a: {cmd: run, proxy: http://h}\n  b: {cmd: run, proxy: http://h}\n"

WRONG = [
    # top level
    ("startPort: abc\n", 1, "startPort is 'abc', not a whole number", "first port"),
    ("startPort: '5800'\n", 1, "startPort is '5800', not a whole number", "remove the quotes"),
    ("startPort: -99\n", 1, "startPort: -99 is less than 1", ""),
    ("startPort: 0\n", 1, "startPort: 0 is less than 1", ""),
    ("startPort: 70000\n", 1, "startPort: 70000 is more than 65535", ""),
    ("startPort: 1.5\n", 1, "startPort is 1.5", ""),
    ("startPort: true\n", 1, "startPort is True", ""),
    ("startPort: [1]\n", 1, "startPort is a list", ""),
    ("globalTTL: -1\n", 1, "globalTTL: -1 is less than 0", ""),
    ("unloadTimeout: -1\n", 1, "unloadTimeout: -1 is less than 0", ""),
    ("logToStdout: all\n", 1, "logToStdout: 'all' is none of proxy, upstream, both, none", ""),
    ("apiKeys: x\n", 1, "apiKeys is 'x', not a list of texts", ""),
    ("apiKeys: ['']\n", 1, "apiKeys[0] is empty", "take the line out"),
    ("apiKeys:\n- good\n- ' '\n", 3, "apiKeys[1] holds a blank", ""),
    ("apiKeys:\n- good\n- ok\n- ' bad'\n", 4, "apiKeys[2] holds a blank", ""),
    ("apiKeys: [a b]\n", 1, "apiKeys[0] holds a blank", ""),
    ("apiKeys: [a, 'b ']\n", 1, "apiKeys[1] holds a blank", ""),
    ("apiKeys: [a, ]\napiKeys: [b]\n", 2, "apiKeys is given twice", "already in line 1"),
    ("apiKeys:\n- a\n-\n", 3, "apiKeys[1] is nothing, not a text", ""),
    ("store: {path: ''}\n", 1, "store.path is empty", "leave store out"),
    ("store: []\n", 1, "store is a list, not a mapping of known keys", ""),
    ("performance: {every: 1s}\n", 1, "performance.every: 1s is less than 5", ""),
    ("performance: {every: 15}\n", 1, "performance.every is 15, not a duration", ""),
    ("performance: {every: fast}\n", 1, "performance.every is 'fast', not a duration", ""),
    ("performance: {disabled: 3}\n", 1, "performance.disabled is 3, not true or false", ""),
    ("upstream: {ignorePaths: ['(']}\n", 1, "upstream.ignorePaths: '(' is no expression", "correct"),
    ("ui: {activity: {session_id: X}}\n", 1, "ui.activity.session_id is 'X', not a list", ""),
    ("models: [a]\n", 1, "models is a list, not a mapping of names",
     "by the name that clients use, such as models: {small: {model: /srv/models/small.gguf}}"),
    ("models:\n  m: {cmd: run}\n  m: {cmd: run}\n", 3, "models.m is given twice", "line 2"),
    ("models:\n  '': {cmd: run}\n", 2, "models: a name is empty", ""),
    ("models:\n  m:\n", 2, "models.m holds no model", "cmd"),
    ("models:\n  m: run\n", 2, "models.m holds no model", "cmd"),
    ("- a\n", 1, "the file holds no settings", "name: value"),
    ("a: [\n", 2, "expected", "YAML"),
    # models
    ("models:\n  m: {name: x}\n", 2, "models.m: it has no cmd", "or a model with the path of a file"),
    ("models:\n  m: {file: x.gguf, keep: pinned}\n", 2, "unknown setting 'file' in models.m", "did you mean model?"),
    ("models:\n  m:\n    name: x\n    cmd: ''\n", 4, "models.m: cmd is empty", "its arguments"),
    ("models:\n  m:\n    cmd: |\n      # nothing\n      \\\n", 3, "models.m: cmd is empty", ""),
    ("models:\n  m:\n    cmd: run 'x\n", 3, "models.m.cmd: no closing quotation", "close"),
    ("models:\n  m:\n    cmd: run ${PORT}\n    cmdStop: stop \"x\n", 4, "models.m.cmdStop: no closing quotation",
     "close"),
    ("models:\n  m:\n    cmd: run\n", 3, "models.m: proxy uses ${PORT} but cmd does not", "${PORT}"),
    ("models:\n  m:\n    cmd: [run, '${PORT}']\n    proxy: http://h:${PORT}\n", 3, "models.m.cmd is a list, not text",
     ""),
    ("models:\n  m:\n    cmd: run\n    proxy: http://h:${PORT}\n", 4, "models.m: proxy uses ${PORT} but cmd does not",
     ""),
    ("models:\n  m:\n    cmd: run\n    proxy: somewhere\n", 4, "models.m.proxy: 'somewhere' is no address", "http://"),
    ("models:\n  m:\n    cmd: run\n    proxy: ftp://h\n", 4, "'ftp://h' is no address", ""),
    ("models:\n  m:\n    cmd: run\n    proxy: http://h:99999\n", 4, "is no address", ""),
    ("models:\n  m:\n    cmd: run\n    proxy: http://[::1\n", 4, "is no address", ""),
    (MODEL.replace("}", ", ttl: -2}"), 2, "models.m.ttl: -2 is less than -1", ""),
    (MODEL.replace("}", ", unloadTimeout: -1}"), 2, "models.m.unloadTimeout: -1 is less than 0", ""),
    (MODEL.replace("}", ", concurrencyLimit: many}"), 2, "models.m.concurrencyLimit is 'many'", ""),
    (MODEL.replace("}", ", aliases: x}"), 2, "models.m.aliases is 'x', not a list of texts", ""),
    (MODEL.replace("}", ", aliases: ['']}"), 2, "models.m: an alias is empty", ""),
    (MODEL.replace("}", ", env: [[a]]}"), 2, "models.m.env[0] is a list, not a text", ""),
    (MODEL.replace("}", ", unlisted: perhaps}"), 2, "models.m.unlisted is 'perhaps', not true or false", ""),
    (MODEL.replace("}", ", name: [a]}"), 2, "models.m.name is a list, not text", ""),
    (MODEL.replace("}", ", metadata: [a]}"), 2, "models.m.metadata is a list, not a mapping", ""),
    (MODEL.replace("}", ", timeouts: {connect: -1}}"), 2, "models.m.timeouts.connect: -1 is less than 0", ""),
    (MODEL.replace("}", ", timeouts: {connect: 5s}}"), 2, "models.m.timeouts.connect is '5s'", ""),
    (MODEL.replace("}", ", capabilities: {in: [smell]}}"), 2, "models.m.capabilities.in[0]: 'smell' is none of", ""),
    (MODEL.replace("}", ", capabilities: {context: -1}}"), 2, "models.m.capabilities.context: -1 is less", ""),
    (MODEL.replace("}", ", capabilities: text}"), 2, "models.m.capabilities is 'text'", ""),
    (MODEL.replace("}", ", compat: {ignoreWebsockets: 2}}"), 2, "models.m.compat.ignoreWebsockets is 2", ""),
    (MODEL.replace("}", ", filters: {setParams: [a]}}"), 2, "models.m.filters.setParams is a list", ""),
    (MODEL.replace("}", ", filters: {setParamsByID: {x: 1}}}"), 2, "setParamsByID.x is 1, not a mapping", ""),
    (MODEL.replace("}", ", filters: {setParamsByID: {' ': {}}}}"), 2, "setParamsByID: a name is empty", ""),
    (MODEL.replace("}", ", filters: {setParamsByID: [a]}}"), 2, "setParamsByID is a list", ""),
    (TWO + "  c:\n    cmd: run\n    proxy: http://h\n    aliases:\n    - d\n    - a\n", 9,
     "models.c: the alias a is the id of a model", "another"),
    (TWO.replace("h}\n  b", "h, aliases: [x]}\n  b").replace("h}\n", "h, aliases: [y, x]}\n"), 3,
     "duplicate alias x found in model: b", "models.a has it"),
    (TWO.replace("h}\n  b", "h, aliases: ['c-*']}\n  b").replace("h}\n", "h, aliases: ['*-c']}\n"), 3,
     "a name may match its alias *-c as well as c-* of models.a", "let one of them tell more letters"),
    (TWO.replace("h}\n", "h, aliases: ['c-*']}\n"), 3,
     "a name may match its alias c-* as well as c-* of models.a", "more letters"),
    ("models:\n  a:\n    cmd: run\n    proxy: http://h\n    filters: {setParamsByID: {'c-*': {a: 1}}}\n", 5,
     "models.a.filters.setParamsByID: c-* stands for many names", "write the names"),
    (TWO.replace("h}\n  b", "h, aliases: [x]}\n  b").replace("h}\n", "h, filters: {setParamsByID: {x: {}}}}\n"), 3,
     "duplicate alias x found in model: b", "models.a"),
    ("startPort: 65535\nmodels:\n  a: {cmd: 'run ${PORT}'}\n  b: {cmd: 'run ${PORT}'}\n", 4,
     "models.b: no port is left",
     "lower startPort"),
    # groups
    (TWO + "groups: {g: {members: [a, a]}}\n", 4, "groups.g: a is a member twice", "once"),
    (TWO + "groups:\n  g: {members: [a]}\n  h: {members: [b, a]}\n", 6, "groups.h: a is a member in groups.g as well",
     ""),
    (TWO + "groups: {g: {members: [aa]}}\n", 4, "groups.g: no model 'aa'", "known: a, b"),
    (TWO + "groups: {(default): {members: [a]}}\n", 4, "(default) is reserved", ""),
    (TWO + "groups: {g: {swap: 2, members: [a]}}\n", 4, "groups.g.swap is 2", ""),
    (TWO + "groups: {g: [a]}\n", 4, "groups.g is a list, not a mapping", ""),
    (TWO + "groups: {g: {members: [a]}}\nmatrix: {sets: {s: a}}\n", 5, "there are groups and a matrix", "take one"),
    # matrix
    (TWO + "matrix: {vars: {x: a}}\n", 4, "matrix has no sets", ""),
    (TWO + "matrix:\n  sets: {}\n", 5, "matrix has no sets", ""),
    (TWO + "matrix: {sets: {s: ''}}\n", 4, "matrix.sets.s is empty", ""),
    (TWO + "matrix: {sets: {s: [a]}}\n", 4, "matrix.sets.s is empty", ""),
    (TWO + "matrix: {sets: {s: }}\n", 4, "matrix.sets.s is empty", ""),
    (TWO + "matrix: {sets: {s: a && b}}\n", 4, "matrix.sets.s: '&' is out of place", "names with"),
    (TWO + "matrix: {sets: {s: a b}}\n", 4, "matrix.sets.s: 'b' is out of place", ""),
    (TWO + "matrix: {sets: {s: a @ b}}\n", 4, "'@' is out of place", ""),
    (TWO + "matrix: {sets: {s: a & }}\n", 4, "it ends too early", ""),
    (TWO + "matrix: {sets: {s: a & +}}\n", 4, "'+' is out of place", ""),
    (TWO + "matrix: {sets: {s: (a | b}}\n", 4, "a parenthesis is not closed", ""),
    (TWO + "matrix: {sets: {s: a | b)}}\n", 4, "')' is out of place", ""),
    (TWO + "matrix: {sets: {s: aa & b}}\n", 4, "no variable or model 'aa'", "known: a, b"),
    (TWO + "matrix: {sets: {one: a, s: b & +oen}}\n", 4, "no set 'oen'", "did you mean one?"),
    (TWO + "matrix:\n  sets:\n    s: a & +t\n    t: b & +u\n    u: a & +t\n", 8,
     "matrix.sets.u: sets use each other: t -> u -> t", "take one"),
    (TWO + "matrix: {sets: {s: a & +s}}\n", 4, "sets use each other: s -> s", ""),
    (TWO + "matrix: {vars: {a_b: a}, sets: {s: a}}\n", 4, "'a_b' is no name", "32"),
    (TWO + "matrix: {vars: {x: c}, sets: {s: a}}\n", 4, "matrix.vars: no model 'c'", "known: a, b"),
    (TWO + "matrix: {vars: {x: [a]}, sets: {s: a}}\n", 4, "matrix.vars: no model ''", ""),
    (TWO + "matrix: {evict_costs: {a: 0}, sets: {s: a}}\n", 4, "matrix.evict_costs.a is no cost", ""),
    (TWO + "matrix: {evict_costs: {a: x}, sets: {s: a}}\n", 4, "matrix.evict_costs.a is no cost", ""),
    (TWO + "matrix: {evict_costs: {a: [1]}, sets: {s: a}}\n", 4, "matrix.evict_costs.a is no cost", ""),
    (TWO + "matrix: {evict_costs: {c: 1}, sets: {s: a}}\n", 4, "no variable or model 'c'", ""),
    (TWO + f"matrix: {{sets: {{s: {'(' * 99}a{')' * 99}}}}}\n", 4, "parentheses or sets in each other", "fewer"),
    (TWO + "matrix:\n  sets:\n    s0: a\n" + "".join(
        f"    s{n}: {'(b & ' * 50}+s{n - 1}{')' * 50}\n" for n in range(1, 5)
    ), 9, "parentheses or sets in each other", "fewer"),
    # routing
    (TWO + "groups: {g: {members: [a]}}\nrouting: {router: {use: group}}\n", 4, "there is groups and routing.router",
     "migrate"),
    (TWO + "matrix: {sets: {s: a}}\nrouting: {router: {use: group}}\n", 4, "there is matrix and routing.router",
     "migrate"),
    (TWO + "routing:\n  router:\n    use: matrix\n", 6, "routing.router uses a matrix, and there is none", "settings"),
    (TWO + "routing: {router: {use: lru}}\n", 4, "routing.router.use: 'lru' is none of group, matrix", ""),
    (TWO + "routing: {scheduler: {use: fair}}\n", 4, "routing.scheduler.use: 'fair' is none of fifo", ""),
    (TWO + "routing: {scheduler: {settings: {fifo: {priority: {c: 1}}}}}\n", 4, "no model 'c'", "known: a, b"),
    (TWO + "routing: {scheduler: {settings: {fifo: {priority: {a: high}}}}}\n", 4, "is 'high', not a whole number", ""),
    (TWO + "routing: {scheduler: {settings: {fifo: {priority: {a: [1]}}}}}\n", 4, "is a list, not a whole number", ""),
    # peers
    (MODEL + "peers:\n  p: {models: [a]}\n", 4, "peers.p has no proxy", "https://"),
    (MODEL + "peers:\n  p: {proxy: '', models: [a]}\n", 4, "peers.p has no proxy", ""),
    (MODEL + "peers:\n  p: {proxy: nowhere, models: [a]}\n", 4, "peers.p.proxy: 'nowhere' is no address", ""),
    (MODEL + "peers:\n  p: {proxy: http://h}\n", 4, "peers.p has no models", ""),
    (MODEL + "peers:\n  p: {proxy: http://h, models: []}\n", 4, "peers.p has no models", ""),
    (MODEL + "peers:\n  p: {proxy: http://h, models: ['']}\n", 4, "peers.p.models: a name is empty", ""),
    (MODEL.replace("m:", "p/a:") + "peers:\n  p: {proxy: http://h, models: [a]}\n", 4,
     "peers.p: p/a is the name of a model here", "models.p/a"),
    (MODEL.replace("}", ", aliases: [p/a]}") + "peers:\n  p: {proxy: http://h, models: [a]}\n", 4,
     "peers.p: p/a is the name of a model here", "models.m"),
    (MODEL + "peers:\n  p: {proxy: http://h, models: [q/a]}\n  p/q: {proxy: http://h, models: [a]}\n", 5,
     "peers.p/q: p/q/a is ambiguous", "peers.p gives"),
    (MODEL + "peers:\n  p: {proxy: http://h, models: [a], filters: {setParams: 1}}\n", 4, "setParams is 1", ""),
    # profiles
    (MODEL + "profiles: {x: [m]}\n", 3, "profiles.x is a list, as profiles once were", "write pins"),
    (MODEL + "profiles: {x: {}}\n", 3, "profiles.x has no pins", ""),
    (MODEL + "profiles: {x: {pins: {}}}\n", 3, "profiles.x has no pins", ""),
    (MODEL + "profiles: {' ': {pins: {a: m}}}\n", 3, "profiles: a name is empty", ""),
    (MODEL + "profiles: {x: {pins: {' ': m}}}\n", 3, "profiles.x.pins: a name is empty", ""),
    (MODEL + "profiles: {x: {pins: {a: mm}}}\n", 3, "profiles.x.pins.a: no model 'mm'", "known: m"),
    (MODEL + "profiles: {x: {pins: {a: [m]}}}\n", 3, "profiles.x.pins.a is a list", ""),
    (MODEL + "peers: {p: {proxy: http://h, models: [a]}}\nprofiles: {x: {pins: {p/a: m}}}\n", 4,
     "p/a is a model of a peer", "another"),
    # selectors
    (TWO + "selectors: {'': {strategy: pin, targets: [a]}}\n", 4, "selectors: a name is empty", ""),
    (TWO + "selectors: {a: {strategy: pin, targets: [a]}}\n", 4, "selectors.a: a is the name of a model", ""),
    (TWO.replace("h}\n  b", "h, aliases: [x]}\n  b") + "selectors: {x: {strategy: pin, targets: [a]}}\n", 4,
     "selectors.x: x is the name of a model", "it leads to a"),
    (TWO + "peers: {p: {proxy: http://h, models: [c]}}\nselectors: {p/c: {strategy: pin, targets: [a]}}\n", 5,
     "p/c is the name of a model", ""),
    (TWO + "selectors: {s: {targets: [a]}}\n", 4, "selectors.s has no strategy", "warm, pin or spillover"),
    (TWO + "selectors: {s: {strategy: best, targets: [a]}}\n", 4, "selectors.s.strategy: 'best' is none of", ""),
    (TWO + "selectors: {s: {strategy: pin}}\n", 4, "selectors.s has no targets", ""),
    (TWO + "selectors: {s: {strategy: pin, targets: []}}\n", 4, "selectors.s has no targets", ""),
    (TWO + "selectors: {s: {strategy: pin, targets: [c]}}\n", 4, "selectors.s.targets: no model 'c'", ""),
    (TWO + "selectors:\n  s: {strategy: pin, targets: [a]}\n  t: {strategy: pin, targets: [s]}\n", 6,
     "selectors.t.targets: s is a selector itself", ""),
    (TWO + "peers: {p: {proxy: http://h, models: [c]}}\nselectors: {s: {strategy: warm, targets: [a, c]}}\n", 5,
     "c is elsewhere", "warm"),
    (TWO + "selectors: {s: {strategy: spillover, targets: [a], settings: {spillover: 0}}}\n", 4,
     "selectors.s.settings.spillover: 0 is less than 1", ""),
    (TWO.replace("h}\n  b", "h, aliases: [x]}\n  b") + "selectors: {s: {strategy: spillover, targets: [a, x]}}\n", 4,
     "a is there twice", "once"),
    (TWO + "selectors: {s: {strategy: spillover, targets: [a, b]}}\n", 4, "a, b may not be in memory together", "swap"),
    (TWO + "groups: {g: {members: [a, b]}}\nselectors: {s: {strategy: spillover, targets: [a, b]}}\n", 5,
     "may not be in memory together", ""),
    (TWO + "groups: {g: {swap: false, members: [a]}, h: {swap: false, members: [b]}}\n"
     "selectors: {s: {strategy: spillover, targets: [a, b]}}\n", 5, "may not be in memory together", ""),
    (TWO + "matrix: {sets: {s: a | b}}\nselectors: {s: {strategy: spillover, targets: [a, b]}}\n", 5,
     "may not be in memory together", ""),
    # our own files
    ("models:\n  folders: [/a]\n", 2, "unknown setting 'models.folders'", "it is called library.folders now"),
    ("server: {}\nmodles: {}\n", 2, "unknown setting 'modles'", "did you mean models?"),
    ("server: {}\nserve: {}\n", 2, "unknown setting 'serve'", "did you mean server?"),
    ("server: {}\nmodels:\n  m: {cmd: run, prxy: http://h}\n", 3, "unknown setting 'prxy' in models.m", "proxy"),
    ("server: {}\ngroups: {g: {memebrs: []}}\n", 2, "unknown setting 'memebrs' in groups.g", "members"),
    ("server: {}\nhooks: {on_start: {}}\n", 2, "unknown setting 'on_start' in hooks", "on_startup"),
    ("models:\n  m:\n    model: a.gguf\n    cmd: run\n", 4, "models.m has a model and cmd", "leave one"),
    ("models:\n  m:\n    model: a.gguf\n    env: [A=1]\n", 4, "models.m has a model and env", "leave one"),
    ("models:\n  m:\n    model:\n", 3, "models.m.model has no value", ""),
    ("models:\n  m:\n    keep: pinned\n", 3, "models.m: it has no cmd", "or a model"),
    ("models:\n  m: {model: a.gguf, keep: hot}\n", 2, "models.m.keep: 'hot' is none of pinned, warm, normal", ""),
    ("models:\n  m: {model: a.gguf, contxt: 1}\n", 2, "unknown setting 'contxt' in models.m", "context"),
    ("models:\n  m: {model: a.gguf, context: long}\n", 2, "models.m: engine.context: 'long' is not", "Context"),
    ("models:\n  m: {model: a.gguf, slots: 0}\n", 2, "models.m: engine.slots: 0 is less than 1", ""),
    ("models:\n  m: {model: a.gguf, kv: q9}\n", 2, "models.m: engine.kv: 'q9' is none of", ""),
    ("models:\n  m: {model: a.gguf, slots: [1]}\n", 2, "one value is wanted, not a list", ""),
    ("models:\n  m: {model: a.gguf, slots: {a: 1}}\n", 2, "one value is wanted, not a mapping", ""),
    ("models:\n  m: {model: a.gguf, engine: ''}\n", 2, "models.m.engine is empty", ""),
    ("models:\n  m: {model: a.gguf, allow_spill: }\n", 2, "models.m.allow_spill has no value", ""),
    ("models:\n  m: {model: a.gguf, gpus: [first]}\n", 2, "models.m.gpus: 'first' is no number of a GPU", "from 0"),
    ("models:\n  m: {model: a.gguf, ttl: }\n", 2, "models.m.ttl has no value", ""),
    ("models:\n  m: {cmd: run, proxy: http://h, priority: 1, context: 4k}\n", 2,
     "models.m.context is for models that name a file", "into cmd"),
    ("models:\n  m: {keep: pinned, cmd: run, proxy: http://h, env: [A]}\n", 2, "models.m.env[0]: 'A' is no variable",
     "NAME"),
    ("server: {}\nmodels:\n  m: {proxy: 'http://h:${PORT}'}\n", 3, "proxy uses ${PORT} but cmd does not", ""),
    ("server: {}\nhealthCheckTimeout: 0\n", 2, "healthCheckTimeout: 0 is less than 1", ""),
    ("server: {}\nlogLevel: loud\n", 2, "logLevel: 'loud' is none of debug", ""),
    ("server: {}\nlogTimeFormat: iso\n", 2, "logTimeFormat: 'iso' is none of ansic", ""),
    ("server: {}\nhooks: {on_startup: {preload: [x]}}\n", 2, "hooks.on_startup.preload: no model 'x'", ""),
    ("server: {}\nprofiles: {x: {pins: {a: }, description: [a]}}\n", 2, "profiles.x.description is a list", ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "words", "hint"), WRONG)
def test_what_is_wrong_is_refused_with_its_line_and_a_cure(text: str, line: int, words: str, hint: str) -> None:
    error = refused(text)
    assert error.message.startswith(f"c.yaml, line {line}: "), error.message
    assert words in error.message
    assert hint in error.hint
    assert error.hint


def test_empty_groups_beside_a_router_are_no_contradiction() -> None:
    assert configuration(TWO + "groups:\nrouting: {router: {use: group}}\n").rule is not None


SEVERAL = """\
server:
  prot: 81
  port: 900000
  host: [a]
models:
  one: {modl: x.gguf}
  two: {model: 3, ttl: abc, kv: q9}
  three: {cmd: "run --port ${PORT} ${x}", aliases: {a: 1}}
  four: {model: fine.gguf}
grups: {}
library: 3
healthCheckTimeout: [1]
unloadTimeout: -1
logLevel: loud
routing: {router: 3}
"""


def test_all_that_is_wrong_is_told_each_with_its_line_and_what_to_do() -> None:
    error = refused(SEVERAL)
    found = (error, *error.others)
    assert [(one.line, one.message.partition(": ")[2]) for one in found] == [
        (2, "unknown setting 'server.prot'"), (3, "server.port: 900000 is more than 65535"),
        (4, "server.host needs a single value"), (6, "unknown setting 'modl' in models.one"),
        (7, "models.two.ttl is 'abc', not a whole number"), (8, "unknown macro ${x} in models.three.cmd"),
        (10, "unknown setting 'grups'"), (11, "library holds no settings"),
        (12, "healthCheckTimeout is a list, not a whole number"), (13, "unloadTimeout: -1 is less than 0"),
        (14, "logLevel: 'loud' is none of debug, info, warn, error"),
    ]  # fmt: skip
    assert all(one.hint for one in found)
    assert not any(one.others for one in error.others)
    assert str(error).endswith("; and 10 more, see `bercail config check`")


def test_what_is_about_names_is_told_together_once_models_are_sound() -> None:
    error = refused(
        TWO + "routing: {scheduler: {settings: {fifo: {priority: {c: 1}}}}, router: {settings: {matrix: {}}, use: 3}}\n"
        "side_requests: {s: {models: [d], clients: [open-webui]}}\npeers: {p: {models: [x]}}\n"
    )
    assert [(one.line, one.message.partition(": ")[2]) for one in (error, *error.others)] == [
        (4, "routing.router.use: '3' is none of group, matrix"),
        (4, "routing.scheduler.settings.fifo.priority.c: no model 'c'"),
        (5, "side_requests.s: no model 'd' here"), (6, "peers.p has no proxy"),
    ]  # fmt: skip


def test_settings_that_have_moved_are_told_once_each() -> None:
    error = refused("models:\n  folders: [/x]\n  offline: true\n  m: {modl: x}\nkeep: 3\n")
    assert [one.line for one in (error, *error.others)] == [2, 3, 4, 5]
    assert "it is called library.folders now" in error.hint


def test_a_note_of_a_file_with_errors_is_no_error() -> None:
    assert not refused("models:\n  m: {cmd: run, proxy: http://h, odd: 1, ttl: abc}\n").others
