"""The checks of `make test` on every supported Python, and what is too long for it."""

import nox

nox.options.sessions = ["check"]


@nox.session(python=["3.11", "3.12", "3.13"])
def check(session: nox.Session) -> None:
    session.install("-e", ".[dev]")
    session.run("python", "tools/check.py")


@nox.session
def explore(session: nox.Session) -> None:
    """Every property, with ten times the examples and other ones each time."""
    session.install("-e", ".[dev]")
    session.run("pytest", "-n", "auto", "--hypothesis-profile", "explore", "-m", "not engine")


@nox.session
def concierge(session: nox.Session) -> None:
    """The model in the box: all held-out questions, and its making on a small scale."""
    session.install("-e", ".[dev,train]")
    session.run("pytest", "tests/e2e/test_demo.py", "tests/concierge", env={"BERCAIL_WHOLE_EVALUATION": "1"})


@nox.session
def engine(session: nox.Session) -> None:
    """llama.cpp built from its source (8 minutes on 2 cores), and the contract of every engine with that build."""
    session.install("-e", ".[dev]")
    session.run("bercail", "engine", "build")
    session.run("bercail", "engine", "verify")
    session.run("pytest", "tests/contracts", "tests/engines")


@nox.session
def vulkan(session: nox.Session) -> None:
    """llama.cpp for Vulkan (16 minutes on 2 cores), and the demo on Mesa's software driver, which is a real one."""
    session.install("-e", ".[dev]")
    session.run("bercail", "engine", "build", "--backend", "vulkan")
    session.run("pytest", "tests/live")


@nox.session
def bench(session: nox.Session) -> None:
    session.install("-e", ".[dev]", "gguf")
    for script in ("bench/micro/gguf_header.py", "bench/micro/memory_bandwidth.py", "bench/scenarios/gateway.py"):
        session.run("python", script)
