"""How much one reads to follow one chat completion from the ASGI scope to the token and back.

    python bench/path_length.py

Counts the files of the way described in docs/ARCHITECTURE.md: whole files, every line; what lies between the socket and
the scope is Hypercorn and aruntime/h2. Goal: at most 15 files and 3,000 lines. For comparison, the peers' ways (counted
in their sources): mini-sglang 11 files / 1,751 lines, vLLM 17 / 25,344, SGLang 10 / 25,420.
"""

from pathlib import Path

ROOT = Path(__file__).parent.parent
FILES_MAX, LINES_MAX = 15, 3000

PATH = (
    "aruntime/http/app.py",
    "aruntime/http/completions.py",
    "aruntime/http/questions.py",
    "aruntime/wire/openai.py",
    "aruntime/model/tokenizer.py",
    "aruntime/admission/door.py",
    "aruntime/admission/route.py",
    "csrc/queue/ends.hpp",
    "aruntime/engine/exchange.pyx",
    "aruntime/engine/loop.py",
    "csrc/scheduler/steps.hpp",
    "aruntime/engine/runner.py",
    "aruntime/model/decoder.py",
    "kernels/aruntime_kernels/sample.py",
    "aruntime/admission/ticket.py",
    "aruntime/http/generation.py",
)


def main() -> None:
    lengths = {name: len((ROOT / name).read_text().splitlines()) for name in PATH}
    for name, lines in lengths.items():
        print(f"{lines:6}  {name}")
    print(f"{sum(lengths.values()):6}  lines in {len(PATH)} files (goal: {LINES_MAX} in {FILES_MAX})")


if __name__ == "__main__":
    main()
