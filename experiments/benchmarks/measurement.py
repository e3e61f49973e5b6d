"""One measured figure, and the JSON object that a bench prints."""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from clutr.envs.workers import worker_count


@dataclass(frozen=True)
class Measurement:
    """A measurement beside that of a peer in the same run."""

    what: str
    value: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None
    """Ours over the peer's."""

    @classmethod
    def beside(cls, what: str, value: float, unit: str, peer: str, peer_value: float) -> "Measurement":
        """A figure with a peer's."""
        return cls(what, value, unit, peer, peer_value, value / peer_value)


def describe_machine() -> dict[str, Any]:
    """Processor, cores, threads and versions that a timing depends on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "workers": worker_count(),
        "torch_threads": torch.get_num_threads(),
        "simd": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def to_json(name: str, figures: Sequence[Measurement]) -> dict[str, Any]:
    """What `clutr bench NAME --json` prints."""
    return {"name": name, "machine": describe_machine(), "figures": [asdict(figure) for figure in figures]}
