"""Files that a command line of ``llama-server`` names, looked at before it starts.

It would load the model first, and then end without a word of which file was wrong, or go without it.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from bercail.core.errors import UsageError
from bercail.core.quotes import told

_MODEL = frozenset(("-m", "--model"))
_FETCHED = frozenset(("-hf", "-hfr", "--hf-repo", "-mu", "--model-url", "-dr", "--docker-repo"))
_LISTS = frozenset(("--lora", "--control-vector"))
_SSL = ("--ssl-key-file", "--ssl-cert-file")
_FILES = _MODEL | _LISTS | frozenset((
    "-mm", "--mmproj", "-md", "--model-draft", "--spec-draft-model", "-lcs", "--lookup-cache-static", *_SSL,
))  # fmt: skip


def check_files(arguments: Sequence[str]) -> None:
    """Nothing, where each file that is named is there.

    Raises:
        UsageError: one is not, or only one of key and certificate is named: it would serve in the clear.
    """
    named = [flag for flag in _SSL if flag in arguments]
    if len(named) == 1:
        missing = next(flag for flag in _SSL if flag not in named)
        raise UsageError(
            f"{named[0]} without {missing} would be served in the clear", hint=f"name both, or leave out {named[0]}"
        )
    fetched = not _FETCHED.isdisjoint(arguments)
    for flag, value in pairwise(arguments):
        if flag not in _FILES or (fetched and flag in _MODEL):
            continue
        for path in value.split(",") if flag in _LISTS else (value,):
            if not Path(path).is_file():
                raise UsageError(
                    f"{flag} {path}: there is no such file",
                    hint=told(path, f"check the path; a relative one counts from {Path.cwd()}"),
                )
