"""bench/make_checkpoint.py makes folders that the server can load, tokenizer and all."""

import subprocess
import sys
from pathlib import Path

from aruntime.model.decoder import load_decoder
from aruntime.model.tokenizer import Tokenizer

SCRIPT = Path(__file__).parent.parent.parent / "bench" / "make_checkpoint.py"


def make(*options: str | Path) -> None:
    subprocess.run([sys.executable, SCRIPT, *options], check=True, capture_output=True)


def test_a_made_checkpoint_loads_and_every_id_has_a_text(tmp_path: Path) -> None:
    make("tiny-qwen3", tmp_path / "a", "--dtype", "bfloat16", "--shard-bytes", "100000")
    decoder = load_decoder(tmp_path / "a", tokens_max=8)
    tokenizer = Tokenizer.from_folder(tmp_path / "a")
    assert len(list((tmp_path / "a").glob("model-*.safetensors"))) > 1
    assert tokenizer.vocab_size == decoder.config.vocab
    assert decoder.config.eos_token_ids == (tokenizer.eos_id,)
    assert tokenizer.encode_chat([{"role": "user", "content": "hi"}])
    make("tiny-mistral", tmp_path / "b", "--tokenizer", tmp_path / "a")
    assert (tmp_path / "b" / "tokenizer.json").read_bytes() == (tmp_path / "a" / "tokenizer.json").read_bytes()
