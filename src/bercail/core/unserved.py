"""What a configuration asks for that is read and not done yet: told at the start, never left out in silence."""

from collections.abc import Iterator

from bercail.core.configuration import Configuration, Gateway


def unserved(configuration: Configuration) -> tuple[str, ...]:
    """What is not done, one sentence each."""
    return tuple(_in_general(configuration))


def _in_general(configuration: Configuration) -> Iterator[str]:
    usual, gateway = Gateway(), configuration.gateway

    for asked, text in (
        (not gateway.samples or gateway.sample_s != usual.sample_s, "performance: nothing is sampled"),
    ):  # fmt: skip
        if asked:
            yield text
