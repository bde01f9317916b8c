from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bercail.probes.procfs import parse_cpuinfo, parse_meminfo

TWO_CPUS = """\
processor\t: 0
model name\t: Made-up CPU
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu sme avx avx2 avx512f

processor\t: 1
model name\t: Made-up CPU
physical id\t: 0
core id\t\t: 1
flags\t\t: fpu sme avx avx2
"""


def test_an_instruction_set_counts_only_if_every_cpu_has_it() -> None:
    assert parse_cpuinfo(TWO_CPUS).instruction_sets == ("avx", "avx2")


def test_memory_encryption_of_amd_is_not_the_matrix_extension_of_arm() -> None:
    arm = "processor : 0\nFeatures : fp asimd sme\n"
    assert "sme" not in parse_cpuinfo(TWO_CPUS).instruction_sets
    assert parse_cpuinfo(arm).instruction_sets == ("asimd", "sme")


def test_processors_cores_and_name_are_read() -> None:
    info = parse_cpuinfo(TWO_CPUS)
    assert info.processors == (0, 1)
    assert info.model_name == "Made-up CPU"
    assert info.cores == {0: ("0", "0"), 1: ("0", "1")}


def test_arm_core_types_are_named_once_each() -> None:
    text = "".join(
        f"processor : {number}\nCPU implementer : 0x41\nCPU part : {part}\n\n"
        for number, part in enumerate(("0xd87", "0xd87", "0xd85"))
    )
    assert parse_cpuinfo(text).model_name == "Cortex-A725 + Cortex-X925"


def test_an_unknown_arm_core_has_no_name() -> None:
    assert parse_cpuinfo("processor : 0\nCPU implementer : 0x99\nCPU part : 0x001\n").model_name is None


def test_sizes_of_meminfo_become_bytes_and_counts_are_left_out() -> None:
    text = "MemTotal:       1024 kB\nHugePages_Total:       7\nNode 3 MemFree: 2 kB\nbroken\n"
    assert parse_meminfo(text) == {"MemTotal": 1 << 20, "MemFree": 2048}


@given(st.text())
def test_no_text_breaks_a_parser_of_proc(text: str) -> None:
    assert parse_cpuinfo(text) == parse_cpuinfo(text)
    assert all(isinstance(amount, int) for amount in parse_meminfo(text).values())


@given(st.text(alphabet="processor:0123456789 \tflagsFeatures\nkBCPU implementerpart0x"))
def test_no_text_like_proc_breaks_a_parser_of_proc(text: str) -> None:
    assert parse_cpuinfo(text) == parse_cpuinfo(text)
    assert all(isinstance(amount, int) for amount in parse_meminfo(text).values())


@pytest.mark.shared
@pytest.mark.parametrize(
    ("target", "model_name", "present", "absent"),
    [
        (
            "linux-unknown-sapphirerapids",
            "Intel(R) Xeon(R) Platinum 8480+",
            "avx2 avx512f avx512bw avx512_vnni avx512_bf16 avx512_fp16 avx_vnni amx_tile amx_int8 amx_bf16",
            "",
        ),
        ("linux-rocky8.5-zen4", "AMD EPYC 9654 96-Core Processor", "avx2 avx512_vnni avx512_bf16", "sme amx_tile"),
        ("linux-ubuntu24.04-alderlake", "Intel(R) Core(TM) Ultra 9 285", "avx2 avx_vnni f16c", "avx512f"),
        ("linux-rhel7-ivybridge", "Intel(R) Xeon(R) CPU E5-2650 v2 @ 2.60GHz", "avx f16c", "avx2 fma"),
        ("linux-ubuntu22.04-neoverse_n2", "Neoverse N2", "asimd asimddp i8mm bf16 sve sve2 svei8mm", "avx2"),
        ("linux-ubuntu22.04-neoverse_v2", "Neoverse V2", "i8mm sve2", ""),
        ("linux-ubuntu24.04-neoverse_v3ae", "Neoverse V3AE", "i8mm sve2", ""),
        ("linux-amazon-neoverse_n1", "Neoverse N1", "asimd asimddp", "sve i8mm"),
        ("linux-rhel8-neoverse_v1", "Neoverse V1", "sve", "sve2"),
        ("linux-centos7-thunderx2", "ThunderX2", "asimd", "asimddp"),
        ("linux-ubuntu22.04-ampere1a", "Ampere-1A", "asimddp i8mm", "sve"),
        ("linux-amazon-cortex_a72", "Cortex-A72", "asimd", "asimddp"),
        ("linux-rhel8-power9", "POWER9, altivec supported", "", "avx asimd"),
        ("linux-spacemit-x60", "Spacemit(R) X60", "", "avx asimd"),
    ],
)
def test_recorded_processors_are_known(shared: Path, target: str, model_name: str, present: str, absent: str) -> None:
    info = parse_cpuinfo((shared / "fixtures/machines/archspec/targets" / target).read_text())
    assert info.model_name == model_name
    assert set(present.split()) <= set(info.instruction_sets)
    assert not set(absent.split()) & set(info.instruction_sets)


@pytest.mark.shared
def test_no_recorded_target_breaks_the_parser(shared: Path) -> None:
    targets = sorted((shared / "fixtures/machines/archspec/targets").iterdir())
    assert targets
    for target in targets:
        parse_cpuinfo(target.read_text())
