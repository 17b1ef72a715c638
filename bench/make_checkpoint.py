"""Makes a Hugging Face folder with random weights, of a named shape, that the server can load and serve.

    python bench/make_checkpoint.py llama-125m /tmp/llama-125m [--dtype bfloat16] [--tokenizer FOLDER]

Without --tokenizer a byte-level BPE is trained on the texts of this repository, and filled up so that every id that the
model may draw has a text. Speed does not depend on the values of weights, and answers of such a model mean nothing.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from aruntime.model.config import ModelConfig
from aruntime.model.weights import tensor_shapes

ROOT = Path(__file__).parent.parent
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
END = "<|end|>"
TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def shape(family: str, **fields: Any) -> dict[str, Any]:
    """A config.json of the family; eos is token 1 of the tokenizer below."""
    common = {"model_type": family.lower(), "hidden_act": "silu", "rms_norm_eps": 1e-5, "eos_token_id": 1}
    return {"architectures": [f"{family}ForCausalLM"], **common, "tie_word_embeddings": False, **fields}


TINY = {
    "vocab_size": 1024,
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 2048,
}
SHAPES = {
    "tiny-llama": shape("Llama", **TINY),
    "tiny-mistral": shape("Mistral", **TINY, sliding_window=256),
    "tiny-qwen2": shape("Qwen2", **TINY),
    "tiny-qwen3": shape("Qwen3", **TINY),
    "llama-125m": shape(
        "Llama",
        vocab_size=32000,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=4,
        max_position_embeddings=4096,
    ),
    "qwen2-0.5b": shape(
        "Qwen2",
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        rope_theta=1e6,
        tie_word_embeddings=True,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--tokenizer", type=Path, help="take the tokenizer of this folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shard-bytes", type=int, default=1 << 30)
    options = parser.parse_args()
    make(options.shape, options.folder, options.dtype, options.tokenizer, options.seed, options.shard_bytes)
    size = sum(file.stat().st_size for file in options.folder.iterdir())
    sys.stdout.write(f"{options.folder}: {size / 1e6:.0f} MB\n")


def make(
    name: str, folder: Path, dtype: str, tokenizer: Path | None = None, seed: int = 0, shard_bytes: int = 1 << 30
) -> None:
    """Write the folder, over what was made there before. The same seed gives the same weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("model*.safetensors*"):
        old.unlink()
    config = SHAPES[name]
    (folder / "config.json").write_text(json.dumps(config | {"torch_dtype": dtype}, indent=2))
    if tokenizer is None:
        write_tokenizer(folder, config["vocab_size"])
    else:
        for file in TOKENIZER_FILES:
            if (tokenizer / file).exists():
                shutil.copyfile(tokenizer / file, folder / file)
    write_weights(folder, getattr(torch, dtype), torch.Generator().manual_seed(seed), shard_bytes)


def write_weights(folder: Path, dtype: torch.dtype, generator: torch.Generator, shard_bytes: int) -> None:
    """Write random tensors in shards of about `shard_bytes`, one shard in memory at a time."""
    shapes = tensor_shapes(ModelConfig.from_folder(folder))
    shards = list(split(shapes, dtype.itemsize, shard_bytes))
    shard_of = {}
    for index, names in enumerate(shards, 1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{index:05}-of-{len(shards):05}.safetensors"
        tensors = {name: torch.ones(shapes[name]) for name in names}
        for name in names:
            if not name.endswith("norm.weight"):
                tensors[name].normal_(0.0, 0.02, generator=generator)
        save_file({name: tensor.to(dtype) for name, tensor in tensors.items()}, folder / file, {"format": "pt"})
        shard_of.update(dict.fromkeys(names, file))
    if len(shards) > 1:
        index_text = json.dumps({"metadata": {}, "weight_map": shard_of}, indent=2)
        (folder / "model.safetensors.index.json").write_text(index_text)


def split(shapes: dict[str, tuple[int, ...]], itemsize: int, shard_bytes: int) -> Iterator[list[str]]:
    """The names in order, cut before the tensor that would make a shard longer than `shard_bytes`."""
    names: list[str] = []
    taken = 0
    for name, dimensions in shapes.items():
        size = itemsize * torch.Size(dimensions).numel()
        if names and taken + size > shard_bytes:
            yield names
            names, taken = [], 0
        names.append(name)
        taken += size
    yield names


def write_tokenizer(folder: Path, vocab: int) -> None:
    """Train a byte-level BPE on the repository's texts and fill it up to `vocab` ids with words that it never reads."""
    tokenizer = Tokenizer(models.BPE())
    pieces = Regex(r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pieces, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|start|>", END]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("aruntime/**/*.py")])
    tokenizer.train([str(path) for path in texts], trainer)
    definition = json.loads(tokenizer.to_str())
    ids = definition["model"]["vocab"]
    ids.update({f"Ġw{number}": number for number in range(len(ids), vocab)})
    (folder / "tokenizer.json").write_text(json.dumps(definition))
    settings = {"bos_token": None, "eos_token": END, "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


if __name__ == "__main__":
    main()
