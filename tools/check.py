"""All checks and tests, as `make test` and CI run them: each step told, the first failure ends it, counts last."""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent

STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("format", ("ruff", "format", "--check", ".")),
    ("lint", ("ruff", "check", ".")),
    ("types", ("mypy",)),
    ("imports", ("lint-imports", "--no-cache")),
    ("docs", ("python", "tools/make_docs.py", "--check")),
    ("tests", ("pytest", "-q", "-n", "auto", "--cov=bercail.core", "--cov=bercail.flows", "--durations=8")),
)


def main() -> int:
    """Run every step; the exit status of the first that fails."""
    counts = ""
    for name, command in STEPS:
        started = time.monotonic()
        print(f"== {name}: {' '.join(command)}", flush=True)
        status, last = run(command)
        verdict = "passed" if status == 0 else "FAILED"
        print(f"== {name}: {verdict} in {time.monotonic() - started:.1f} s", flush=True)
        if name == "tests":
            counts = last
        if status:
            print(counts)
            return status
    print("== all checks passed")
    print(counts)
    return 0


def run(command: tuple[str, ...]) -> tuple[int, str]:
    """Run one step of the environment, its output as it comes; exit status and last line."""
    last = ""
    argv = [str(BIN / command[0]), *command[1:]]
    with subprocess.Popen(argv, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            last = line.rstrip() or last
    return process.returncode, last


if __name__ == "__main__":
    sys.exit(main())
