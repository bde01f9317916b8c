"""This machine -> ``core.machine``. Everything is read below a root folder, so recorded machines serve as tests."""

from bercail.probes.local import LocalProber
from bercail.probes.nvidia import NvidiaSmi, find_smi
from bercail.probes.sampler import SystemSampler

__all__ = ["LocalProber", "NvidiaSmi", "SystemSampler", "find_smi"]
