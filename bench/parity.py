"""The parity table: our logits and greedy tokens against transformers, on random checkpoints of every family.

    python bench/parity.py [--device cuda]

Error: the largest difference of logits as a part of the largest logit, over all tokens of three texts, in float32.
Greedy:
whether 64 tokens are the same, one by one; beside others, after every token of every text.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from aruntime_kernels import cpu

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "model"))
from model_parity import CASES, Case, Reference, ways


def main() -> int:
    """Print the table; the exit status is 1 when a row is not within 1e-4 or greedy tokens differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    cpu.set_threads(options.threads)
    torch.set_num_threads(1)  # transformers' many small operations would wait on a second one
    print("| checkpoint | stored | prefill | chunked prefill | decode | among others | greedy equal |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    return 0 if all([row(case, options.device) for case in CASES]) else 1


def row(case: Case, device: str) -> bool:
    """Print one case's row; whether it passes."""
    with tempfile.TemporaryDirectory() as name:
        case.save(Path(name))
        results = list(ways(Path(name), Reference(Path(name)), device=device, weight_dtype=torch.float32))
    errors = " | ".join(f"{error:.1e}" for _, error, _ in results)
    same = all(same for _, _, same in results)
    print(
        f"| {case.name} | {str(case.dtype).removeprefix('torch.')} | {errors} | {'yes' if same else 'NO'} |", flush=True
    )
    return same and all(error < 1e-4 for _, error, _ in results)


if __name__ == "__main__":
    sys.exit(main())
