"""Command lines written for older builds of ``llama-server`` -> flags of b11549, each change told. Pure.

What b11549 itself still understands by an older name is left alone.
"""

from collections.abc import Mapping, Sequence

_RENAMED: Mapping[str, str] = {
    "--draft": "--spec-draft-n-max", "--draft-n": "--spec-draft-n-max", "--draft-max": "--spec-draft-n-max",
    "--draft-min": "--spec-draft-n-min", "--draft-n-min": "--spec-draft-n-min",
}  # fmt: skip
_LOADING = {
    frozenset(("--no-mmap",)): "none",
    frozenset(("--mlock",)): "mmap+mlock",
    frozenset(("--no-mmap", "--mlock")): "mlock",
}
_GONE = frozenset(("--mmap",))
"""What they asked for is what happens anyway."""
_DIRECT = frozenset(("--direct-io", "-dio"))


def translated(arguments: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The same command line for b11549, and what was changed, in words."""
    said: list[str] = []
    notices: list[str] = []
    loading = [argument for argument in arguments if argument in ("--no-mmap", "--mlock")]
    for place, argument in enumerate(arguments):
        words = _words_for(argument, arguments[place + 1 : place + 2])
        said.extend(words)
        if words != (argument,) and argument not in loading:
            notices.append(f"{argument} of an older build: {' '.join(words) or 'left out, it is so anyway'}")
    if loading:
        mode = _LOADING[frozenset(loading)]
        said += ["--load-mode", mode]
        notices.append(f"{' '.join(dict.fromkeys(loading))} of an older build: --load-mode {mode}")
    return tuple(said), tuple(notices)


_SPLITS = frozenset(("-sm", "--split-mode"))
_NEEDS_GPUS = frozenset(("tensor", "row"))


def without_gpus(arguments: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The same command line for an engine on CPUs, which refuses to share a model among GPUs, and what was changed."""
    said: list[str] = []
    notices: list[str] = []
    skipped = False
    for place, argument in enumerate(arguments):
        following = arguments[place + 1] if place + 1 < len(arguments) else ""
        if skipped:
            skipped = False
        elif argument in _SPLITS and following in _NEEDS_GPUS:
            skipped = True
            notices.append(f"{argument} {following}: left out, this engine runs on the CPU")
        else:
            said.append(argument)
    return tuple(said), tuple(notices)


def _words_for(argument: str, following: Sequence[str]) -> tuple[str, ...]:
    if argument in _GONE or argument in ("--no-mmap", "--mlock"):
        return ()
    if argument in _DIRECT:
        return ("--load-mode", "dio")
    if argument in ("-fa", "--flash-attn") and (not following or following[0].startswith("-")):
        return (argument, "on")
    return (_RENAMED.get(argument, argument),)
