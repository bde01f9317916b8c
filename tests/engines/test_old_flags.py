"""Command lines of older builds, in the words of b11549."""

import pytest

from bercail.engines.llama_cpp.old_flags import translated, without_gpus


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--model m.gguf -c 512 -fa on", "--model m.gguf -c 512 -fa on"),
        ("--no-mmap -c 512", "-c 512 --load-mode none"),
        ("--mlock", "--load-mode mmap+mlock"),
        ("--mlock --no-mmap", "--load-mode mlock"),
        ("-dio", "--load-mode dio"),
        ("-fa -c 512", "-fa on -c 512"),
        ("-c 512 --flash-attn", "-c 512 --flash-attn on"),
        ("--draft-max 8 --draft-min 2", "--spec-draft-n-max 8 --spec-draft-n-min 2"),
        ("--mmap", ""),
    ],
)
def test_what_an_older_build_understood_is_said_anew_and_told(old: str, new: str) -> None:
    said, notices = translated(old.split())
    assert said == tuple(new.split())
    assert bool(notices) == (old != new)
    assert all("of an older build: " in notice for notice in notices)


def test_what_only_gpus_can_do_is_left_out_on_a_cpu_and_told() -> None:
    asked = "-m m.gguf --split-mode tensor -ngl 9999 -sm row -sm layer --split-mode"
    said, notices = without_gpus(asked.split())
    assert said == ("-m", "m.gguf", "-ngl", "9999", "-sm", "layer", "--split-mode")
    assert notices == (
        "--split-mode tensor: left out, this engine runs on the CPU", "-sm row: left out, this engine runs on the CPU"
    )  # fmt: skip
