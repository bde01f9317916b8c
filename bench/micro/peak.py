"""What this processor's matrix instructions can do, and what of it reading a prompt takes.

Compiles `peak.c` for each kind that the processor has (a C compiler is needed), runs one process for each CPU at once,
and adds up their multiply-adds per second, the best of `--runs`. A model that reads R tokens/s does R times its linear
weights (all matrices but the embedding) in multiply-adds; attention is left out, so R should be of a short prompt.

    python -m bench.micro.peak [--model MODEL.gguf --rate TOKENS_PER_S] [--runs 5] [--json FILE]
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bercail.core.pace import linear_flops
from bercail.flows import glance
from bercail.wiring import build_house
from tools.figures import publish

KINDS = {
    "AMX int8": ("amx_int8", ("-mamx-tile", "-mamx-int8", "-DTILES", "-DMULTIPLY=_tile_dpbssd", "-DDEPTH=64")),
    "AMX bf16": ("amx_bf16", ("-mamx-tile", "-mamx-bf16", "-DTILES", "-DMULTIPLY=_tile_dpbf16ps", "-DDEPTH=32")),
    "AVX-512 VNNI int8": ("avx512_vnni", ("-mavx512f", "-mavx512vnni")),
}
ROUNDS = 20_000_000


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="GGUF file")
    parser.add_argument("--rate", type=float, help="tokens/s that it was seen to read")
    parser.add_argument("--runs", type=int, default=5, help="default %(default)s")
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args(argv)
    house = build_house(None, {})
    cpu = glance(house).cpu
    peaks = {
        kind: max(together(flags, len(cpu.logical_cpus)) for _ in range(given.runs))
        for kind, (needed, flags) in KINDS.items()
        if needed in cpu.instruction_sets
    }
    found: dict[str, object] = {
        "machine": f"{cpu.model_name}, {os.cpu_count()} CPUs", "system": platform.platform(), "runs": given.runs,
        "multiply_adds_per_s": peaks,
    }  # fmt: skip
    if given.model and given.rate:
        model = house.reader.read(str(given.model))
        work = linear_flops(model) / 2 * given.rate
        found |= {"model": given.model.stem, "read_tokens_per_s": given.rate, "its_multiply_adds_per_s": work}
        found["of_peak"] = {kind: work / peak for kind, peak in peaks.items()}
    publish(found, given.json)
    return 0


def together(flags: Sequence[str], processes: int) -> float:
    """Multiply-adds per second of so many processes at once."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "peak"
        source = Path(__file__).with_suffix(".c")
        subprocess.run(["cc", "-O3", *flags, "-o", str(program), str(source)], check=True)
        running = [
            subprocess.Popen([program, str(ROUNDS)], stdout=subprocess.PIPE, text=True) for _ in range(processes)
        ]
        return sum(float(one.communicate()[0]) for one in running)


if __name__ == "__main__":
    sys.exit(main())
