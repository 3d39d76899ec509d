"""What a step costs on given hardware: rooflines from data sheets and model configs, and fitted profiles.

Belongs here: the catalogue of GPUs, models and engines (YAML with sources), and everything that turns it into the
closed form that the engine runs on. Start at `roofline`.
"""

from sim.hardware.catalogue import (
    EngineEfficiency,
    Gpu,
    HardwareError,
    Model,
    engine_names,
    find_engine,
    find_gpu,
    find_model,
    gpu_names,
    model_names,
    read_model,
)
from sim.hardware.layout import Layout
from sim.hardware.roofline import (
    kv_blocks_for,
    kv_bytes_per_token,
    price_per_hour_usd,
    step_cost_for,
    weight_bytes_per_gpu,
)

__all__ = [
    "EngineEfficiency",
    "Gpu",
    "HardwareError",
    "Layout",
    "Model",
    "engine_names",
    "find_engine",
    "find_gpu",
    "find_model",
    "gpu_names",
    "kv_blocks_for",
    "kv_bytes_per_token",
    "model_names",
    "price_per_hour_usd",
    "read_model",
    "step_cost_for",
    "weight_bytes_per_gpu",
]
