"""How fast main memory is read, by which method, and how much a second core adds. Usage: see --help."""

import argparse
import statistics
import time

from bercail.core.units import format_bandwidth, format_bytes
from bercail.probes import LocalProber
from bercail.probes.bandwidth import METHODS, Effort, measure
from bercail.probes.local import reading_threads


def rates(method: str, threads: int, buffer_bytes: int, windows: int) -> list[float]:
    effort = Effort(threads=threads, buffer_bytes=buffer_bytes, methods=(method,) * windows)
    return [window.bytes_per_s for window in measure(effort, time.perf_counter).windows]


def line(name: str, values: list[float]) -> str:
    middle = statistics.median(values)
    spread = (max(values) - min(values)) / middle
    low, high = format_bandwidth(min(values)), format_bandwidth(max(values))
    return f"{name:<24} median {format_bandwidth(middle):>11}   {low} .. {high}   spread {spread:.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=5, help="windows of 0.12 s per line")
    parser.add_argument("--runs", type=int, default=3, help="runs of the product's own measurement")
    options = parser.parse_args()
    prober = LocalProber()
    machine = prober.probe()
    threads = reading_threads(machine.cpu)
    buffer_bytes = max(256 << 20, 4 * (machine.cpu.l3_bytes or 0))
    print(f"{prober.fingerprint(machine)}\n{threads} threads over {format_bytes(buffer_bytes)}\n")
    for method in METHODS:
        one = rates(method, 1, buffer_bytes, options.windows)
        every = rates(method, threads, buffer_bytes, options.windows)
        print(line(f"{method}, 1 thread", one))
        print(line(f"{method}, {threads} threads", every))
        print(f"{method}: {statistics.median(every) / statistics.median(one):.2f} x one thread\n")
    found: list[float] = []
    for _ in range(options.runs):
        begin = time.perf_counter()
        figure = prober.measure_bandwidth(machine)
        if figure is not None:
            found.append(figure.bytes_per_s)
        print(f"measure_bandwidth took {time.perf_counter() - begin:.2f} s")
    if found:
        print(line("measure_bandwidth", found))


if __name__ == "__main__":
    main()
