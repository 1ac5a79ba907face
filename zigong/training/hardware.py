"""Devices on which a plan is estimated: a table of usual ones, this machine's CPUs, and what probe-device measured."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from zigong.errors import ConfigError
from zigong.files.atomic import write_json

UTILISATION = 0.4  # assumed share of a GPU's peak that a training reaches: LoRA on long samples, bf16
# Dense bf16 peak in FLOP/s and memory in GiB, of the makers' data sheets.
PEAKS = {
    "l4": (1.21e14, 22),
    "a10g": (7.0e13, 22),
    "l40s": (3.62e14, 44),
    "a100-40gb": (3.12e14, 39),
    "a100-80gb": (3.12e14, 79),
    "h100-80gb": (9.89e14, 79),
    "h200": (9.89e14, 139),
}
DEFAULT_GPU = "a100-80gb"
CPU = "cpu"
CPU_FLOP_PER_SECOND = 1.0e11  # small matrices, 2 busy cores; zigong probe-device measures it


@dataclass(frozen=True, kw_only=True)
class Device:
    """What one worker computes on.

    Attributes:
        name: in tables.
        flop_per_second: achieved in trainings, not the peak.
        memory_gib: of the device; of the machine for a CPU.
        origin: where the rate comes from, in words.
    """

    name: str
    flop_per_second: float
    memory_gib: float
    origin: str

    def write(self, file: Path) -> None:
        """Writes it as JSON."""
        write_json(file, asdict(self))


def device_named(name: str) -> Device:
    """A device of the table, ``cpu``, or one that ``zigong probe-device`` has measured.

    Args:
        name: a name of ``PEAKS``, ``cpu``, or the path of a JSON file.

    Raises:
        ConfigError: there is no such device, or the file is not one of probe-device.
    """
    if name == CPU:
        return Device(
            name="2 cores", flop_per_second=CPU_FLOP_PER_SECOND, memory_gib=machine_memory_gib(), origin="assumed"
        )
    if name in PEAKS:
        peak, memory = PEAKS[name]
        origin = f"assumed: {UTILISATION:.0%} of the peak"
        return Device(name=name, flop_per_second=UTILISATION * peak, memory_gib=memory, origin=origin)
    try:
        return Device(**json.loads(Path(name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"device {name} is unknown", action=f"name one of {', '.join((CPU, *PEAKS))}, or a file of probe-device"
        ) from error


def machine_memory_gib() -> float:
    """Memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
