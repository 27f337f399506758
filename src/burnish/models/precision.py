"""The number format to compute in, chosen by timing the chip."""

import time
from functools import cache
from typing import Literal

import torch

PROBE_SIZE = 768
PROBE_GAIN = 1.3  # bf16 must be this much faster than fp32 to be worth its rounding


@cache
def chosen_dtype(precision: Literal["auto", "fp32", "bf16"] = "auto") -> torch.dtype:
    """Return the format to compute in; `auto` is bf16 where a matrix product is clearly faster in it."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if precision == "bf16":
        return torch.bfloat16
    if precision == "auto" and _seconds(torch.bfloat16, device) * PROBE_GAIN < _seconds(torch.float32, device):
        return torch.bfloat16
    return torch.float32


def _seconds(dtype: torch.dtype, device: str) -> float:
    """Return the best time of a few square matrix products, in seconds."""
    left = torch.randn(PROBE_SIZE, PROBE_SIZE, device=device).to(dtype)
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        (left @ left).sum().item()
        best = min(best, time.perf_counter() - start)
    return best


def device_words() -> str:
    """Return the device in words: the GPU's name, or the processor's and its number of cores."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
