"""Simon Willison's `llm`, a command line: a chat of two turns, with its model list and its log in a scratch folder."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

MODEL = "- model_id: here\n  model_name: gpt-4o-mini\n  api_base: {url}\n"

with tempfile.TemporaryDirectory() as scratch:
    (Path(scratch) / "extra-openai-models.yaml").write_text(MODEL.format(url=os.environ["OPENAI_BASE_URL"]))
    for words in (["-m", "here", "Hello"], ["-c", "And?"], ["-m", "here", "--no-stream", "Hello"]):
        subprocess.run([sys.executable, "-m", "llm", *words], env=os.environ | {"LLM_USER_PATH": scratch}, check=True)
print("all is well")
