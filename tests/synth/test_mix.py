"""Stock mixes give published tensor sizes to the byte, and headers of them are read with these sizes."""

from collections import Counter
from pathlib import Path

import pytest

from bercail.readers import Readers
from tools.synth import __main__ as command
from tools.synth.mix import MIXES, quantized
from tools.synth.shapes import known, read_table

TABLE = read_table()

# Tensor bytes of published files: their size less the header, which is the same for every type of a repository.
PUBLISHED = {
    ("Llama-3.2-3B", "Q4_K_M"): 2_011_539_712,
    ("Llama-3.1-8B", "Q8_0"): 8_532_934_912,
    ("Llama-3.1-8B", "Q4_K_M"): 4_920_739_232 - 7_840_928,
    ("Llama-3.1-8B", "Q4_K_S"): 4_692_673_952 - 7_840_928,
    ("Llama-3.1-8B", "Q5_K_M"): 5_732_992_416 - 7_840_928,
    ("Llama-3.1-8B", "Q6_K"): 6_596_011_424 - 7_840_928,
    ("Mistral-7B-v0.3", "Q4_K_M"): 4_372_812_000 - 757_984,
    ("Qwen3-14B", "Q4_K_M"): 8_995_793_920,
    ("Qwen3-32B", "Q4_K_M"): 19_756_174_336,
    ("Qwen3-30B-A3B", "Q4_K_M"): 18_550_716_416,
    ("Qwen3-30B-A3B", "Q5_K_M"): 21_719_611_392,
    ("Qwen3-30B-A3B", "Q4_K_S"): 17_456_009_792 - 5_970_496,
    ("Qwen3.6-27B", "Q4_K_M"): 16_536_406_016,
    ("Qwen3.6-35B-A3B", "Q4_K_M"): 21_155_768_832,
    ("Gemma-3-12B", "Q8_0"): 12_503_399_424,
    ("Gemma-3-12B", "Q4_K_M"): 7_294_024_704,
    ("Gemma-4-26B-A4B", "Q4_K_M"): 16_780_192_888,
    ("Gemma-4-26B-A4B", "Q8_0"): 26_844_036_216,
    ("DeepSeek-V3", "Q8_0"): 713_281_210_368,
    ("Qwen2.5-7B", "F16"): 15_231_899_648,
}  # fmt: skip


@pytest.mark.parametrize(("name", "mix"), PUBLISHED)
def test_a_mix_is_as_large_as_the_published_file(name: str, mix: str) -> None:
    shape = TABLE[name]
    found = quantized(known(shape).tensors, mix, layers=shape["layers"], architecture=shape["arch"])
    assert sum(tensor.bytes for tensor in found) == PUBLISHED[name, mix]


def test_the_histogram_is_that_of_the_published_file() -> None:
    shape = TABLE["Qwen3-32B"]
    found = quantized(known(shape).tensors, "Q4_K_M", layers=64)
    assert Counter(tensor.type for tensor in found) == {"q4_k": 385, "q6_k": 65, "f32": 257}


def test_an_unknown_mix_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no mix Q9; there are F16, Q8_0"):
        quantized([], "Q9", layers=1)


@pytest.mark.parametrize("mix", MIXES)
def test_the_command_writes_a_sparse_file_of_full_size(tmp_path: Path, mix: str) -> None:
    path = tmp_path / "m.gguf"
    assert command.main(["Llama-3.2-1B", str(path), "--type", mix]) == 0
    model = Readers({}, tmp_path, tmp_path).read(str(path))
    assert model.parameter_count == TABLE["Llama-3.2-1B"]["parameters"]
    assert path.stat().st_size > model.weights_bytes
    assert path.stat().st_blocks * 512 < 2_000_000


def test_an_unknown_model_is_refused_with_the_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["Llama-3.2-2B", str(tmp_path / "m.gguf")])
    assert "Llama-3.2-1B" in capsys.readouterr().err
