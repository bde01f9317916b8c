"""``bercail config``: what a configuration says, what of it is ignored, and what is missing here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from bercail.core.allotment import Allotment, allot
from bercail.core.claims import allotment_problems, claims_of, meeting
from bercail.core.command import CommandSpec
from bercail.core.configuration import Configuration, Loaded
from bercail.core.declared import Declared, ModelFile
from bercail.core.errors import NotFoundError, ReadError, SettingsError
from bercail.core.later import set_for_later
from bercail.core.legal import beyond_its_own
from bercail.core.needed import files_of, program_of
from bercail.core.options import Settings
from bercail.core.quotes import told
from bercail.core.tree import Note, NoteKind
from bercail.flows.inspect import resolve
from bercail.ports import Configurations, ModelReader, Prober


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A configuration that was looked through.

    Attributes:
        configuration: None where something is wrong.
        wrong: what is; None where nothing is.
        missing: programs and files that are not on this machine, and models on it that cannot be served as they are
            declared, with the line of each.
        shares: of this machine's cores, of the models that ask for one.
        at_odds: what is wrong with those, in words.
        later: keys that it sets and that count from the next start alone, whatever a reload reads.
    """

    file: str
    configuration: Configuration | None = None
    wrong: SettingsError | None = None
    missing: tuple[Note, ...] = ()
    shares: Mapping[str, Allotment] = field(default_factory=dict)
    at_odds: tuple[str, ...] = ()
    later: tuple[str, ...] = ()

    @property
    def is_wrong(self) -> bool:
        """Whether something in it must be changed before all of it can be served."""
        return self.wrong is not None or any(note.kind is NoteKind.REFUSED for note in self.missing)


def check(files: Configurations, prober: Prober, reader: ModelReader, file: str) -> Checked:
    """What a configuration says, what it needs that is not here, and who gets which cores of this machine.

    Raises:
        SettingsError: the file cannot be read.
    """
    texts = files.gather(file, None)
    try:
        configuration = files.read(texts)
    except SettingsError as error:
        return Checked(file=file, wrong=error)
    settings = files.settings(texts)
    missing = tuple(
        note
        for model in configuration.models
        for note in (*_missing(files, model, file), *_refused(reader, model, settings))
    )
    found = Checked(
        file=file, configuration=configuration, missing=missing,
        later=set_for_later(Loaded(settings=settings, configuration=configuration)),
    )  # fmt: skip
    claims, beside = claims_of(configuration, settings.engine), meeting(configuration.rule)
    if not any(claim.is_auto for claim in claims):
        return found
    shares = allot(prober.probe().cpu, claims, beside)
    return replace(found, shares=shares, at_odds=allotment_problems(claims, shares, beside))


def _missing(files: Configurations, model: Declared, file: str) -> Iterator[Note]:
    program = program_of(model)
    own = model.source.environment.get("PATH") if isinstance(model.source, CommandSpec) else None
    if program and not files.has_program(program, own):
        yield _warning(model, f"there is no program {program}")
    for path in files_of(model):
        if not files.has_file(path, file):
            why = told(path)
            yield _warning(model, f"there is no file {path}: {why}" if why else f"there is no file {path}")


def _refused(reader: ModelReader, model: Declared, settings: Settings) -> Iterator[Note]:
    """Why a model that is here cannot be served as it is declared, as far as its header tells."""
    source = model.source
    if not isinstance(source, ModelFile):
        return
    try:
        found = resolve(reader, source.path, settings.library.folders)
        header = reader.read(found.path, projector=found.projector)
    except ReadError as error:
        if error.code != "no_such_file":  # which is told as missing
            yield Note(line=model.line, kind=NoteKind.REFUSED, text=f"models.{model.id}: {error}")
        return
    except NotFoundError:
        return  # it may be there when it is served
    if why := beyond_its_own(header, source.wish(settings.engine).context):
        yield Note(line=model.line, kind=NoteKind.REFUSED, text=f"models.{model.id}: {why}")


def _warning(model: Declared, text: str) -> Note:
    return Note(line=model.line, kind=NoteKind.WARNING, text=f"models.{model.id}: {text}")
