"""Which number format training uses on a device."""

from __future__ import annotations

from typing import Literal

import torch


def resolve(precision: str, device: torch.device) -> Literal["float32", "bfloat16"]:
    """Return what `auto` means on `device`: bfloat16 where the hardware gains by it, else float32."""
    if precision == "float32" or (precision == "auto" and not _has_bfloat16(device)):
        return "float32"
    return "bfloat16"


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        found = torch.cpu.get_capabilities()
        # Without AMX, AVX512-BF16 pays on AMD's processors alone: see docs/architecture.md.
        on_amd = "AMD" in str(found.get("cpu_name", ""))
        return bool(found.get("amx_bf16") or (on_amd and found.get("avx512_bf16")))
    return False
