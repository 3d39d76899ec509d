"""What one replica of a pool takes: GPUs, and dollars an hour. The one place where a plan asks for either."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.cluster.machines import Machine
from sim.experiment.errors import InputError
from sim.experiment.schema import Pool


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars an hour for a GPU, as of a date, by a source. Made by `read_prices`; without a file, the catalogue's."""

    date: str
    source: str
    per_gpu_hour: dict[str, float]
    """By the catalogue's name of the GPU. Empty: what the catalogue says."""

    def of(self, pool: Pool, machine: Machine) -> float | None:
        """Return what a replica costs an hour; None when the pool names no GPU.

        Raises:
            InputError: the file has no price for its GPU.
        """
        if not self.per_gpu_hour or pool.gpu is None:
            return machine.price_per_hour
        from sim.hardware import find_gpu

        name = find_gpu(pool.gpu).name
        if name not in self.per_gpu_hour:
            raise InputError(f"{self.source}: there is no price for {name}; it has {', '.join(self.per_gpu_hour)}")
        return self.per_gpu_hour[name] * gpus_of(pool)


def gpus_of(pool: Pool) -> int:
    """Return how many GPUs a replica of the pool takes."""
    return pool.num_gpus


def catalogue_prices() -> Prices:
    """Return the prices that come with the package, an assumption."""
    from sim.hardware import find_gpu, gpu_names

    gpu = find_gpu(gpu_names()[0])
    return Prices(gpu.price_date, gpu.price_note, {})


def read_prices(path: Path) -> Prices:
    """Read prices from YAML: `date`, `source`, and `price_per_hour_usd` by GPU.

    Raises:
        InputError: the file is missing, is not such YAML, or names a GPU that is unknown.
    """
    from sim.hardware import HardwareError, find_gpu

    given = _read(path)
    for key in ("date", "source", "price_per_hour_usd"):
        if not given.get(key):
            raise InputError(f"{path}: the key {key!r} is missing; expected date, source and price_per_hour_usd")
    prices = given["price_per_hour_usd"]
    if not isinstance(prices, dict):
        raise InputError(f"{path}: price_per_hour_usd: expected a mapping, such as {{l40s: 0.95}}")
    found = {}
    for name, price in prices.items():
        if isinstance(price, bool) or not isinstance(price, int | float) or not price > 0:
            raise InputError(f"{path}: price_per_hour_usd.{name}: {price!r}: expected dollars an hour, above 0")
        try:
            found[find_gpu(str(name)).name] = float(price)
        except HardwareError as error:
            raise InputError(f"{path}: price_per_hour_usd: {error}") from error
    return Prices(str(given["date"]), str(given["source"]), found)


def _read(path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        given = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    except YAMLError as error:
        raise InputError(f"{path}: this is not YAML: {error}") from error
    if not isinstance(given, dict):
        raise InputError(f"{path}: expected date, source and price_per_hour_usd")
    return given
