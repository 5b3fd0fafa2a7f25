"""Which number format training uses on a device."""

from __future__ import annotations

from typing import Literal

import torch


def resolve(precision: str, device: torch.device) -> Literal["float32", "bfloat16"]:
    """Return what `auto` means on `device`: bfloat16 where the hardware gains by it, else float32."""
    if precision == "float32" or (precision == "auto" and not _has_bfloat16(device)):
        return "float32"
    return "bfloat16"


def compute_exactly() -> None:
    """Let this process compute float32 on GPUs as float32, and alike each time.

    By default convolutions there round factors to ten bits (TF32), and may sum up in another order each time.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        found = torch.cpu.get_capabilities()
        # Without AMX, AVX512-BF16 pays on AMD's processors alone: see docs/architecture.md.
        on_amd = "AMD" in str(found.get("cpu_name", ""))
        return bool(found.get("amx_bf16") or (on_amd and found.get("avx512_bf16")))
    return False
