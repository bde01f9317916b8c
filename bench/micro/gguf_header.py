"""Header of a 150,000-token vocabulary: our reader against the public ``gguf`` package, time and memory.

Each run is a process of its own that has imported its reader before the clock starts; the file lies in the page cache.
Time is wall time of one read. Memory is the peak resident set during the read above the resident set before it
(``VmHWM`` and ``VmRSS`` of /proc/self/status, so Linux only); mapped pages of the file count.

    python bench/micro/gguf_header.py [--runs N] [--json]
"""

import argparse
import json
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

SCHEMA = "bercail.bench.gguf_header/1"
TOKENS = 150_000
MERGES = 300_000
BLOCKS = 36
WIDTH = 2048
INNER = 6144
READERS = ("bercail", "gguf")
MEBIBYTE = 1_048_576


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=7, help="runs of our reader")
    options.add_argument("--other-runs", type=int, default=3, help="runs of the gguf package, 0 for none")
    options.add_argument("--merges", type=int, default=MERGES, help="merges beside the 150,000 tokens")
    options.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options.add_argument("--child", nargs=2, metavar=("READER", "FILE"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.child:
        print(json.dumps(measure(*chosen.child)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "synthetic.gguf"
        write_model(path, chosen.merges)
        results = {"bercail": summary("bercail", path, chosen.runs)}
        if chosen.other_runs and find_spec("gguf"):
            results["gguf"] = summary("gguf", path, chosen.other_runs)
        file_bytes = path.stat().st_size
    report = {"schema": SCHEMA, "tokens": TOKENS, "merges": chosen.merges, "file_bytes": file_bytes, "readers": results}
    if "gguf" in results:
        report["time_ratio"] = results["gguf"]["median_s"] / results["bercail"]["median_s"]
    print(json.dumps(report, indent=1) if chosen.json else table(results))


def summary(reader: str, path: Path, runs: int) -> dict[str, float]:
    """Figures of so many processes."""
    found = [run_child(reader, path) for _ in range(runs)]
    times = [run["read_s"] for run in found]
    return {
        "runs": runs,
        "min_s": min(times),
        "median_s": statistics.median(times),
        "max_s": max(times),
        "memory_above_idle_bytes": max(run["memory_bytes"] for run in found),
        "tensors": found[0]["tensors"],
    }


def run_child(reader: str, path: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", reader, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def measure(reader: str, path: str) -> dict[str, float]:
    """One read, in this process."""
    read = ours() if reader == "bercail" else theirs()
    idle = status_bytes("VmRSS")
    # Writing 5 resets the peak (proc(5)), which importing has raised.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    begin = time.perf_counter()
    tensors = read(path)
    spent = time.perf_counter() - begin
    return {"read_s": spent, "memory_bytes": status_bytes("VmHWM") - idle, "tensors": tensors}


def ours() -> Callable[[str], int]:
    from bercail.readers import Readers

    reader = Readers({}, Path.home(), Path.cwd())
    return lambda path: len(reader.read(path).tensors)


def theirs() -> Callable[[str], int]:
    import gguf

    return lambda path: len(gguf.GGUFReader(path).tensors)


def status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"no {field} in /proc/self/status")


def write_model(path: Path, merges: int) -> None:
    """A llama with the vocabulary; tensor data is a hole in the file."""
    tensors = list(tensor_table())
    keys = [*scalars(), *vocabulary(merges)]
    head = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(keys)), *keys]
    offset = 0
    for name, shape in tensors:
        head.append(text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 1, offset))
        size = 2
        for extent in shape:
            size *= extent
        offset += -(-size // 32) * 32
    raw = b"".join(head)
    path.write_bytes(raw)
    with path.open("r+b") as file:
        file.truncate(-(-len(raw) // 32) * 32 + offset)


def scalars() -> Iterator[bytes]:
    yield text("general.architecture") + struct.pack("<I", 8) + text("llama")
    for name, value in (
        ("block_count", BLOCKS), ("context_length", 40960), ("embedding_length", WIDTH), ("feed_forward_length", INNER),
        ("attention.head_count", 16), ("attention.head_count_kv", 8),
    ):  # fmt: skip
        yield text(f"llama.{name}") + struct.pack("<II", 4, value)
    yield text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5)


def vocabulary(merges: int) -> Iterator[bytes]:
    """Words of the lengths that byte-level vocabularies have: mostly 3 to 10 bytes, some long."""
    dice = random.Random(1)
    lengths = dice.choices(
        (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 24, 80), (4, 9, 12, 14, 14, 13, 10, 8, 7, 6, 2, 0.8, 0.2), k=TOKENS
    )
    words = [f"{number:x}".ljust(length, "q") for number, length in enumerate(lengths)]
    pairs = [f"{dice.choice(words)} {dice.choice(words)[:4]}" for _ in range(merges)]
    yield text("tokenizer.ggml.model") + struct.pack("<I", 8) + text("gpt2")
    for name, entries in (("tokens", words), ("merges", pairs)):
        yield text(f"tokenizer.ggml.{name}") + struct.pack("<IIQ", 9, 8, len(entries)) + b"".join(map(text, entries))
    types = struct.pack(f"<{TOKENS}i", *[1] * TOKENS)
    yield text("tokenizer.ggml.token_type") + struct.pack("<IIQ", 9, 5, TOKENS) + types


def tensor_table() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "token_embd.weight", (WIDTH, TOKENS)
    yield "output_norm.weight", (WIDTH,)
    for block in range(BLOCKS):
        for name, shape in (
            ("attn_norm", (WIDTH,)), ("attn_q", (WIDTH, WIDTH)), ("attn_k", (WIDTH, WIDTH // 2)),
            ("attn_v", (WIDTH, WIDTH // 2)), ("attn_output", (WIDTH, WIDTH)), ("ffn_norm", (WIDTH,)),
            ("ffn_gate", (WIDTH, INNER)), ("ffn_up", (WIDTH, INNER)), ("ffn_down", (INNER, WIDTH)),
        ):  # fmt: skip
            yield f"blk.{block}.{name}.weight", shape


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def table(results: dict[str, dict[str, float]]) -> str:
    lines = [f"{'reader':<10}{'runs':>6}{'min ms':>10}{'median ms':>12}{'max ms':>10}{'MiB above idle':>17}"]
    for name, figures in results.items():
        lines.append(
            f"{name:<10}{figures['runs']:>6.0f}{figures['min_s'] * 1e3:>10.1f}{figures['median_s'] * 1e3:>12.1f}"
            f"{figures['max_s'] * 1e3:>10.1f}{figures['memory_above_idle_bytes'] / MEBIBYTE:>17.1f}"
        )
    if "gguf" in results:
        ratio = results["gguf"]["median_s"] / results["bercail"]["median_s"]
        lines.append(f"gguf / bercail, medians: {ratio:.0f}")
    else:
        lines.append("no comparison: the gguf package was not asked for or is not installed (pip install gguf)")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
