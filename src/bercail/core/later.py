"""What of a configuration counts only from the next start: a reload does not take it, and says so."""

from collections.abc import Iterator
from dataclasses import fields

from bercail.core.configuration import Loaded
from bercail.core.options import every_option

AT_ONCE = frozenset(("server.max_wait", "server.wait_limit", "server.queue", "server.queue_per_key"))
"""Settings that a reload takes, for whoever waits is looked at again all the time."""
GATEWAY_LATER = {
    "log_level": "logLevel",
    "log_time": "logTimeFormat",
    "log_output": "logToStdout",
    "capture_mb": "captureBuffer",
    "store_path": "store.path",
    "samples": "performance.disabled",
    "sample_s": "performance.every",
}
"""Keys of a configuration that count from the next start, by the name of what they set."""


def later(began: Loaded, now: Loaded) -> tuple[str, ...]:
    """Keys whose values in ``now`` are others than those that the server began with, and wait for its next start."""
    return tuple(_differing(began, now))


def set_for_later(now: Loaded) -> tuple[str, ...]:
    """Keys that ``now`` sets to something else than their usual values, and that count from a start alone."""
    return later(Loaded(), now)


def _differing(began: Loaded, now: Loaded) -> Iterator[str]:
    for spec in every_option():
        before, after = (getattr(getattr(one.settings, spec.group), spec.name) for one in (began, now))
        if before != after and spec.key not in AT_ONCE:
            yield spec.key
    for item in fields(now.configuration.gateway):
        if item.name in GATEWAY_LATER:
            before, after = (getattr(one.configuration.gateway, item.name) for one in (began, now))
            if before != after:
                yield GATEWAY_LATER[item.name]
