"""What looks at the machine and reads models."""

from collections.abc import Sequence
from typing import Protocol

from bercail.core.bandwidth import Reading
from bercail.core.machine import Machine
from bercail.core.model import Findings, Model
from bercail.core.sample import Sample


class Prober(Protocol):
    """Looks at this machine."""

    def probe(self) -> Machine:
        """What may be used of the machine right now; bandwidth only if it was measured before."""
        ...

    def fingerprint(self, machine: Machine) -> str:
        """A key under which measurements of this machine may be kept."""
        ...

    def measure_bandwidth(self, machine: Machine) -> Reading | None:
        """Reading speed of main memory with all usable cores and what disturbed it, at most about a second of work.

        None where it cannot be measured (too little free memory); the reason is up to the caller to tell.
        """
        ...


class Sampler(Protocol):
    """Looks at this machine again and again."""

    def take(self) -> Sample:
        """The machine now, and what its CPUs did since it was asked last."""
        ...


class ModelReader(Protocol):
    """Finds and reads model files."""

    def find(self, paths: Sequence[str], folders: Sequence[str]) -> Findings:
        """Models at ``paths`` (files or folders); else in ``folders``; else where other tools keep theirs."""
        ...

    def read(self, path: str, *, projector: str | None = None) -> Model:
        """The model at ``path``, checked for everything that would harm an engine short of reading token arrays.

        Raises:
            ReadError: it cannot be read or must not be loaded.
        """
        ...

    def read_remote(self, url: str) -> Model:
        """The model at ``url``, as far as its header tells: nothing else is fetched, and the file cannot be loaded.

        Raises:
            ReadError: it cannot be fetched, or is no model.
        """
        ...

    def audit_vocabulary(self, model: Model) -> None:
        """Read the token arrays and check what an engine would not survive (about 0.1 s for 150,000 tokens).

        Raises:
            ReadError: the vocabulary would abort an engine.
        """
        ...
