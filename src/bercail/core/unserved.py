"""What a configuration asks for that is read and not done yet: told at the start, never left out in silence."""

from collections.abc import Iterator

from bercail.core.configuration import Configuration, Gateway


def unserved(configuration: Configuration) -> tuple[str, ...]:
    """What is not done, one sentence each."""
    return tuple(_in_general(configuration))


def _in_general(configuration: Configuration) -> Iterator[str]:
    gateway = configuration.gateway
    if gateway.samples and gateway.sample_s != Gateway().sample_s:
        yield "performance: of GPUs AMD's alone are sampled, for to ask the others' drivers takes a program each time"
