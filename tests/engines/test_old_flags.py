"""Command lines of older builds, in the words of b11549."""

import pytest

from bercail.core.errors import UsageError
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
        ("--no_mmap -c 512", "-c 512 --load-mode none"),
        ("--log-colors --port 1", "--log-colors on --port 1"),
        ("--slots-endpoint-disable -c 512", "--no-slots -c 512"),
        ("--memory_f32 --low-vram", "--cache-type-k f32 --cache-type-v f32 --no-kv-offload"),
        ("--clear-idle", "--cache-idle-slots"),
        ("--no-clear-idle", "--no-cache-idle-slots"),
        ("-cpent 1024", "--checkpoint-min-step 1024"),
        ("--checkpoint-every-n-tokens -1", "--ctx-checkpoints 0"),
        ("--log-format json", "--log-jsonl"),
        ("--log-format text -c 512", "-c 512"),
        ("-dt 0.1 --dump-kv-cache -c 512", "-c 512"),
        ("-gan 1 -gaw 512 --tfs 1.0 --penalize-nl", ""),
        ("--spec-replace a b -cd 512 -md m.gguf", "-md m.gguf"),
        ("--lora-scaled a.gguf 0.5 -c 512", "--lora-scaled a.gguf:0.5 -c 512"),
        ("--control-vector-scaled a.gguf -0.8", "--control-vector-scaled a.gguf:-0.8"),
        ("--lora-scaled a.gguf:0.5 -c 512", "--lora-scaled a.gguf:0.5 -c 512"),
        ("--spec-type ngram-mod --draft-max 8", "--spec-type ngram-mod --spec-ngram-mod-n-max 8"),
        (
            "--spec-type draft-simple,ngram-mod --draft-min 2",
            "--spec-type draft-simple,ngram-mod --spec-draft-n-min 2 --spec-ngram-mod-n-min 2",
        ),
        ("--spec-type ngram-map-k --spec-ngram-size-n 6", "--spec-type ngram-map-k --spec-ngram-map-k-size-n 6"),
        ("--spec-type ngram-mod --spec-ngram-size-n 6", "--spec-type ngram-mod --spec-ngram-mod-n-match 6"),
        ("--spec-ngram-min-hits 2", ""),
    ],
)
def test_what_an_older_build_understood_is_said_anew_and_told(old: str, new: str) -> None:
    said, notices = translated(old.split())
    assert said == tuple(new.split())
    assert bool(notices) == (old != new)
    assert all("of an older build: " in notice for notice in notices)


@pytest.mark.parametrize(
    ("old", "instead"),
    [
        ("--grp-attn-n 4 --grp-attn-w 1024", "--rope-scaling yarn"),
        ("-spf prompt.json", "system message of each request"),
        ("--system-prompt-file prompt.json", "system message of each request"),
        ("--tfs 0.9", "--min-p"),
        ("--no-penalize-nl", "--repeat-penalty"),
        ("--lora-base base.gguf", "--model"),
        ("--model-vocoder v.gguf", "no speech"),
        ("--embd-bge-small-en-default", "--model FILE"),
    ],
)
def test_what_answers_depended_on_is_refused_and_said_what_to_do_instead(old: str, instead: str) -> None:
    with pytest.raises(UsageError, match="was removed from llama-server") as caught:
        translated(["-m", "m.gguf", *old.split()])
    assert old.split()[0] in caught.value.message
    assert instead in caught.value.hint


def test_a_flag_of_an_older_build_that_ends_the_line_without_its_value_is_told() -> None:
    with pytest.raises(UsageError, match="-cpent of llama-server wants a value"):
        translated(["-cpent"])


def test_what_only_gpus_can_do_is_left_out_on_a_cpu_and_told() -> None:
    asked = "-m m.gguf --split-mode tensor -ngl 9999 -sm row -sm layer --split-mode"
    said, notices = without_gpus(asked.split())
    assert said == ("-m", "m.gguf", "-ngl", "9999", "-sm", "layer", "--split-mode")
    assert notices == (
        "--split-mode tensor: left out, this engine runs on the CPU", "-sm row: left out, this engine runs on the CPU"
    )  # fmt: skip
