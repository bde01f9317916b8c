"""The whole error tree.

::

    BercailError            what happened, what to do, a stable code
    |- UsageError           the command line or a request is wrong              exit 2
    |- SettingsError        a settings file or environment variable is wrong    exit 2
    |- ReadError            a model file cannot be read or must not be loaded   exit 1
    |- NotFoundError        no such model                                       exit 1
    |- StoreError           our own files cannot be read or written             exit 3
    |- ListenError          the address is taken or not ours                    exit 3
    |- EngineError          an engine did not start, broke or was killed        exit 3
    |- RefusedError         a plan does not fit                                 exit 1
    |- BusyError            too many requests wait, or one waited too long      exit 3
    `- StoppingError        the server is going down                            exit 3
"""

CANNOT_BE_HAD = "cannot_be_had"
"""The code of a refusal that no waiting and no memory would change."""

LASTING = frozenset({
    "bad_command", "bad_url", "bad_value", "damaged_model", "docker_permission", "draft_model", "ended_early",
    "engine_instructions", "engine_lacks", "engine_not_installed", "engine_too_old", "gated_model", "kv_type",
    "missing_file", "missing_image", "missing_library", "no_such_program", "projector", "unknown_architecture",
    "unknown_flag", "unknown_tokenizer", "unloadable_model", "unreadable_model",
})  # fmt: skip
"""Codes of engines' failures that every other start meets alike until somebody changes something."""


class BercailError(Exception):
    """Anything Bercail refuses or fails to do.

    Attributes:
        message: what happened, one sentence without a full stop.
        hint: what to do about it, or an empty string.
        code: a stable word for programs.
        exit_code: 1 found a problem, 2 wrong usage, 3 could not start.
    """

    code = "error"
    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code:
            self.code = code

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(BercailError):
    """The command line or a request is wrong."""

    code = "usage"
    exit_code = 2


class SettingsError(BercailError):
    """A settings file or an environment variable is wrong.

    Attributes:
        line: where, counted on over all files that are read as one; None where it stands in none.
        others: what is wrong as well, further down.
    """

    code = "settings"
    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: str = "",
        line: int | None = None,
        others: "tuple[SettingsError, ...]" = (),
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.line = line
        self.others = others

    def __str__(self) -> str:
        more = f"; and {len(self.others)} more, see `bercail config check`" if self.others else ""
        return super().__str__() + more


class ReadError(BercailError):
    """A model file cannot be read, or must not be given to an engine.

    Attributes:
        path: the file.
        field: the part of the file that is wrong, such as a key or a tensor name; empty if it is the whole.
        offset: byte offset of that part from the start of the file, or None where none applies.
        place: the three together, as the message begins.
    """

    code = "unreadable_model"

    def __init__(
        self,
        message: str,
        *,
        path: str,
        field: str = "",
        offset: int | None = None,
        hint: str = "",
        code: str = "",
    ) -> None:
        place = path + (f", {field}" if field else "") + (f", byte {offset}" if offset is not None else "")
        super().__init__(f"{place}: {message}", hint=hint, code=code)
        self.path = path
        self.field = field
        self.offset = offset
        self.place = place


class NotFoundError(BercailError):
    """No such model."""

    code = "model_not_found"


class StoreError(BercailError):
    """A file of our own cannot be read or written."""

    code = "store"
    exit_code = 3


class ListenError(BercailError):
    """The address to listen on is taken or not ours."""

    code = "cannot_listen"
    exit_code = 3


class EngineError(BercailError):
    """An engine did not start, broke or was killed.

    Attributes:
        log_tail: the last lines of its log, oldest first.
    """

    code = "engine"
    exit_code = 3

    def __init__(self, message: str, *, hint: str = "", code: str = "", log_tail: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint, code=code)
        self.log_tail = log_tail


class RefusedError(BercailError):
    """A plan does not fit this machine."""

    code = "does_not_fit"


class BusyError(BercailError):
    """Too many requests wait, or one waited too long.

    Attributes:
        status: as HTTP: 429 if the client itself has too many waiting, otherwise 503.
        retry_after_s: when it is worth asking again, or None.
    """

    code = "busy"
    exit_code = 3

    def __init__(self, message: str, *, status: int = 503, retry_after_s: int | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.retry_after_s = retry_after_s


class StoppingError(BercailError):
    """The server is going down and takes no new work."""

    code = "stopping"
    exit_code = 3
