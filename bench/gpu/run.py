"""`make gpu`: on a machine with a GPU, the kernels' tests, their measurements, and the server, under nine minutes.

Refuses to print a figure while a test is red. Writes bench/results/gpu-<name>.json, the operations' figures before the
server is tried. Exits 2 without a GPU, 1 when something is red.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))

TESTS = [f"tests/kernels/test_kernels_{name}.py" for name in ("triton", "attention_edges", "sample", "refusals")]
TESTS_TIMEOUT_S = 240.0
SERVED = "llama-125m"
SERVED_TIMEOUT_S = 60.0  # for each preparation of the server
SERVED_NEEDS = ["h2", "hypercorn", "httpx", "jinja2", "orjson", "pydantic", "starlette", "tokenizers", "uvloop"]


def tests_pass() -> bool:
    """The kernels' tests on the GPU, a process a file since most of their time is compilation; output goes through."""
    command = [sys.executable, "-m", "pytest", "-c", "bench/gpu/pytest.ini", "--rootdir=.", "-p", "no:cacheprovider"]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    running = [subprocess.Popen([*command, test], cwd=ROOT, env=environment) for test in TESTS]
    end_s = time.monotonic() + TESTS_TIMEOUT_S
    try:
        return all([test.wait(max(0.0, end_s - time.monotonic())) == 0 for test in running])
    except subprocess.TimeoutExpired:
        print(f"make gpu: the tests took more than {TESTS_TIMEOUT_S:.0f} s", file=sys.stderr)
        return False
    finally:
        for test in running:
            test.kill()
            test.wait()


def operations() -> dict[str, dict[str, object]]:
    """Microseconds of each case and of its peers, and its share of the copy's bandwidth or its TFLOP/s."""
    from operations import cases, copy_bytes_per_s, median_s

    ceiling = copy_bytes_per_s()
    figures: dict[str, dict[str, object]] = {"copy": {"bytes_per_s": ceiling}}
    for case in cases():
        seconds = median_s(case.run)
        figure: dict[str, object] = {"us": round(seconds * 1e6, 2)}
        if case.bytes:
            figure["share_of_copy"] = round(case.bytes / seconds / ceiling, 3)
        if case.operations:
            figure["tflops"] = round(case.operations / seconds / 1e12, 1)
        for name, run in case.peers.items():
            try:
                figure[f"{name}: us"] = round(median_s(run) * 1e6, 2)
            except RuntimeError as failed:  # another's kernel; ours is measured all the same
                figure[f"{name}: failed"] = str(failed).splitlines()[0]
        figures[case.name] = figure
        print(f"{case.name:45} {figure}", flush=True)
        torch.cuda.empty_cache()
    return figures


def served() -> dict[str, object]:
    """The real server on the GPU with a random checkpoint, under an open load; or what it lacks here."""
    missing = [name for name in SERVED_NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        return {"not_run": f"this Python lacks {', '.join(missing)}"}
    from quick import server

    with tempfile.TemporaryDirectory() as folder:

        def run(*words: str) -> None:
            subprocess.run([sys.executable, *words], cwd=ROOT, check=True, timeout=SERVED_TIMEOUT_S)

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
    to = ROOT / "bench/results" / f"gpu-{name.lower().replace(' ', '-')}.json"
    to.parent.mkdir(exist_ok=True)
    figures: dict[str, object] = {
        "device": name,
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "operations": operations(),
    }
    to.write_text(json.dumps(figures, indent=2) + "\n")
    figures["server"] = served()
    to.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures["server"], indent=2))
    print(f"written to {to.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
