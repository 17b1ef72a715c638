"""Fits the simulator's step time to the real engine: the demo model through scheduler, decoder and sampler on this CPU.

    python bench/simulate/calibrate.py

Runs steps of many shapes and solves for base, prompt token, decoding sequence and token of context by non-negative
least squares on relative error; writes demo_cpu.json with the machine's name and how far the fit is off.
"""

import json
import os
import sys
import time
from array import array
from pathlib import Path

import numpy as np
import torch
from aruntime_kernels import cpu

from aruntime.engine.runner import Runner
from aruntime.model.decoder import load_decoder
from aruntime.model.kv_cache import KvCache
from aruntime.scheduler.scheduler import Scheduler

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))
from quick import machine  # noqa: E402
from step_times import MEASURED  # noqa: E402

NAMES = ("base_s", "prefill_token_s", "decode_s", "context_token_s")
SHAPES = [(sequences, prompt) for sequences in (1, 2, 4, 8, 16, 32, 64) for prompt in (16, 64, 200, 500)]


def measure(decodes_each: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """What each step was made of [steps, 4], and its seconds [steps]."""
    decoder = load_decoder(ROOT / "examples/repository/demo/1", tokens_max=512, sequences_max=64)
    blocks = 64 * 40
    runner = Runner(decoder, KvCache(decoder.config, blocks, 16, torch.bfloat16), 64)
    work, seconds = [], []
    slot = 0
    for sequences, prompt in SHAPES * 2:
        scheduler = Scheduler(
            sequences_max=64, step_tokens_max=512, waiting_max=64, context_max=640, block_tokens=16, blocks=blocks,
            vocab=decoder.config.vocab, eos_token_ids=[],
        )  # fmt: skip
        for _ in range(sequences):
            slot += 1
            ids = array("i", np.random.default_rng(slot).integers(3, decoder.config.vocab, prompt).tolist())
            scheduler.submit(front_end=1, slot=slot, generation=0, prompt=ids, max_tokens=decodes_each, seed=slot)
        while True:
            started = time.perf_counter()
            plan = scheduler.plan(started)
            if plan.tokens == 0:
                break
            made_of = (1, plan.tokens - plan.decodes, plan.decodes, int(plan.context_len.sum()))
            scheduler.commit(runner.launch(plan).fetch()[0], time.perf_counter())
            work.append(made_of)
            seconds.append(time.perf_counter() - started)
    return np.array(work, float), np.array(seconds)


def fit(work: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Coefficients of which none is below 0, by coordinate descent on relative error."""
    rows = work / seconds[:, None]
    scale = rows.mean(axis=0)
    rows = rows / scale
    found = np.zeros(rows.shape[1])
    for _ in range(20_000):
        for i in range(len(found)):
            rest = 1 - rows @ found + rows[:, i] * found[i]
            found[i] = max(0.0, float(rows[:, i] @ rest / (rows[:, i] @ rows[:, i])))
    return found / scale


def main() -> None:
    threads = len(os.sched_getaffinity(0))
    cpu.set_threads(threads)
    torch.set_num_threads(threads)
    measure(4)  # warm
    work, seconds = measure()
    # A step in which the machine looked away says nothing about the model.
    found = fit(work, seconds)
    errors = seconds / (work @ found) - 1
    kept = np.abs(errors) < 1.0
    found = fit(work[kept], seconds[kept])
    errors = np.abs(seconds[kept] / (work[kept] @ found) - 1)
    step_time = dict(zip(NAMES, found.tolist(), strict=True)) | {"noise": 0.1}
    report = {
        "machine": machine(),
        "steps": len(seconds),
        "left_out": int((~kept).sum()),
        "relative_error_median": float(np.median(errors)),
        "relative_error_p90": float(np.quantile(errors, 0.9)),
        "step_time": step_time,
    }
    MEASURED.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
