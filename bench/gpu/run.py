"""`make gpu`: on a machine with a GPU, the kernels' tests, their measurements, and the server, under nine minutes.

Refuses to print a figure while a test is red. Writes bench/results/gpu-<name>.json. Without a GPU it says so, exits 2.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))

TESTS = ["tests/kernels/test_kernels_triton.py", "tests/kernels/test_kernels_ahead_of_time.py"]
SERVED = "llama-125m"


def tests_pass() -> bool:
    """The kernels' tests, on the GPU; their output goes through."""
    command = [sys.executable, "-m", "pytest", *TESTS, "-p", "no:cacheprovider"]
    return subprocess.run(command, cwd=ROOT).returncode == 0


def operations() -> dict[str, dict[str, float]]:
    """Microseconds of each case, and its share of the copy's bandwidth or its TFLOP/s."""
    from operations import cases, copy_bytes_per_s, median_s

    ceiling = copy_bytes_per_s()
    figures: dict[str, dict[str, float]] = {"copy": {"bytes_per_s": ceiling}}
    for case in cases():
        seconds = median_s(case.run)
        figures[case.name] = {"us": round(seconds * 1e6, 2)}
        if case.bytes:
            figures[case.name]["share_of_copy"] = round(case.bytes / seconds / ceiling, 3)
        if case.operations:
            figures[case.name]["tflops"] = round(case.operations / seconds / 1e12, 1)
        print(f"{case.name:45} {figures[case.name]}", flush=True)
        torch.cuda.empty_cache()
    return figures


def served() -> dict[str, object]:
    """The real server on the GPU with a random checkpoint, under an open load."""
    from quick import server

    with tempfile.TemporaryDirectory() as folder:
        run = lambda *words: subprocess.run([sys.executable, *words], cwd=ROOT, check=True)  # noqa: E731
        run("bench/make_checkpoint.py", SERVED, f"{folder}/model", "--dtype", "bfloat16")
        run("-m", "aruntime.cli.main", "models", "add", "demo", f"{folder}/model", "--repository", f"{folder}/models")
        return server(64.0, 20.0, ["--repository", f"{folder}/models", "--device", "cuda", "--cache-bytes", "8G"])


def main() -> int:
    if not torch.cuda.is_available():
        print("make gpu: there is no GPU on this machine", file=sys.stderr)
        return 2
    if not tests_pass():
        print("make gpu: tests are red; nothing is measured", file=sys.stderr)
        return 1
    name = torch.cuda.get_device_name()
    figures = {
        "device": name,
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "operations": operations(),
        "server": served(),
    }
    to = ROOT / "bench/results" / f"gpu-{name.lower().replace(' ', '-')}.json"
    to.parent.mkdir(exist_ok=True)
    to.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures["server"], indent=2))
    print(f"written to {to.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
