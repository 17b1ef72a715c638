"""How long a step takes on two machines: one measured, one by arithmetic.

seconds = base_s + prefill_token_s * prompt tokens + decode_s * decoding sequences + context_token_s * tokens they read
"""

import json
from pathlib import Path

MEASURED = Path(__file__).parent / "demo_cpu.json"  # written by calibrate.py


def demo_cpu() -> dict[str, float]:
    """The bundled demo model on the CPU machine that calibrate.py ran on."""
    found: dict[str, float] = json.loads(MEASURED.read_text())["step_time"]
    return found


def h200_8b() -> dict[str, float]:
    """A model of 8 billion parameters in bf16 on one H200, by the roofline: arithmetic, not a measurement.

    32 layers, 8 KV heads of 128, as Llama 3.1 8B. The data sheet says 4.8 TB/s and 989 TFLOP/s dense bf16; assumed are
    80 % and 60 % of these, and 0.5 ms a step for launches and the host.
    """
    parameters, bandwidth, flops = 8.03e9, 0.8 * 4.8e12, 0.6 * 989e12
    cache_bytes_a_token = 2 * 32 * 8 * 128 * 2
    token_s = 2 * parameters / flops
    return {
        "base_s": 0.5e-3 + 2 * parameters / bandwidth,
        "prefill_token_s": token_s,
        "decode_s": token_s,
        "context_token_s": cache_bytes_a_token / bandwidth,
        "noise": 0.05,
    }
