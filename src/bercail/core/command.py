"""Programs that end in an HTTP server, and servers elsewhere: what is started, and where it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bercail.core.units import Seconds

PORT = "${PORT}"
"""Stands for the port that the program is to listen on."""
PID = "${PID}"
"""Stands, where the program is to be stopped, for its process id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSpec:
    """One program to be run, or a server that is only talked to.

    Attributes:
        model_id: the name clients use.
        argv: program and arguments, without a shell; ``${PORT}`` may stand in any of them. Empty: nothing is started.
        stop_argv: a program that ends it, with ``${PID}``; empty: it gets SIGTERM.
        url: where it answers: scheme, host, port or ``${PORT}``, and the beginning of every path.
        check_path: answers 200 when it is ready; empty: it is ready as soon as it runs.
        environment: added to ours.
        port: stands for ``${PORT}``; None where that does not occur.
        ready_s: it must be ready after so long.
        stop_s: it is killed so long after it was asked to end.
        headers: sent with every request, such as the key of a server elsewhere.
    """

    model_id: str
    argv: tuple[str, ...] = ()
    stop_argv: tuple[str, ...] = ()
    url: str = f"http://localhost:{PORT}"
    check_path: str = "/health"
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    port: int | None = None
    ready_s: Seconds = 120.0
    stop_s: Seconds = 10.0
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def takes_port(self) -> bool:
        """Whether a port must be chosen for it."""
        return any(PORT in text for text in (*self.argv, *self.stop_argv, self.url, *self.environment.values()))

    @property
    def cleanup_argv(self) -> tuple[str, ...]:
        """What ends more than the process, such as a container; empty if ``stop_argv`` only speaks to the process."""
        return () if any(PID in text for text in self.stop_argv) else self.stop_argv

    def at(self, port: int) -> "CommandSpec":
        """The same with ``port`` in all places that stand for one."""
        chosen = str(port)
        return replace(
            self,
            argv=tuple(text.replace(PORT, chosen) for text in self.argv),
            stop_argv=tuple(text.replace(PORT, chosen) for text in self.stop_argv),
            url=self.url.replace(PORT, chosen),
            environment={name: text.replace(PORT, chosen) for name, text in self.environment.items()},
            port=port,
        )
