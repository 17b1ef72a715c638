"""Weights are read from safetensors that hold exactly what the config promises; anything else is refused."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_model_config import LLAMA

from aruntime.model.checkpoint import Checkpoint
from aruntime.model.config import CheckpointRefused, ModelConfig
from aruntime.model.decoder import load_decoder
from aruntime.model.weights import load_weights, tensor_shapes

Tensors = dict[str, torch.Tensor]
INDEX = "model.safetensors.index.json"
QUERY = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    return tmp_path


def tensors(folder: Path) -> Tensors:
    shapes = tensor_shapes(ModelConfig.from_folder(folder))
    return {name: torch.full(shape, 0.01) for name, shape in shapes.items()}


def save_shards(folder: Path, parts: dict[str, Tensors]) -> None:
    for file, part in parts.items():
        save_file(part, folder / file)
    write_index(folder, {name: file for file, part in parts.items() for name in part})


def write_index(folder: Path, weight_map: object) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def two_parts(folder: Path) -> dict[str, Tensors]:
    every = list(tensors(folder).items())
    return {"model-00001-of-00002.safetensors": dict(every[:9]), "model-00002-of-00002.safetensors": dict(every[9:])}


def refusal(folder: Path, **options: object) -> str:
    with pytest.raises(CheckpointRefused) as caught:
        load_decoder(folder, tokens_max=8, **options)  # type: ignore[arg-type]
    return str(caught.value)


def changed(change: Callable[[Tensors], object]) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        every = tensors(folder)
        change(every)
        save_file(every, folder / "model.safetensors")

    return save


WRONG_TENSORS = [
    (changed(lambda t: t.pop(QUERY)), f"tensor {QUERY} is missing"),
    (changed(lambda t: t.pop("lm_head.weight")), "tensor lm_head.weight is missing"),
    (changed(lambda t: t.update({QUERY: torch.ones(96, 95)})), f"tensor {QUERY}: want shape [96, 96], got [96, 95]"),
    (changed(lambda t: t.update({QUERY: torch.ones(96 * 96)})), f"tensor {QUERY}: want shape [96, 96], got [9216]"),
    (
        changed(lambda t: t.update({QUERY: torch.ones(96, 96).char()})),
        f"tensor {QUERY}: want F32 or F16 or BF16, got I8",
    ),
    (
        changed(lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": torch.ones(96)})),
        "tensor model.layers.0.self_attn.q_proj.bias is unexpected; 1 such tensors",
    ),
    (
        changed(lambda t: t.update({"model.layers.3.mlp.up_proj.weight": torch.ones(1)})),
        "tensor model.layers.3.mlp.up_proj.weight is unexpected; 1 such tensors",
    ),
]


@pytest.mark.parametrize(("save", "reason"), WRONG_TENSORS, ids=[reason for _, reason in WRONG_TENSORS])
def test_a_wrong_tensor_is_refused_by_name(folder: Path, save: Callable[[Path], None], reason: str) -> None:
    save(folder)
    assert refusal(folder) == reason


def test_tables_that_old_checkpoints_store_and_a_head_beside_tied_embeddings_are_left_aside(folder: Path) -> None:
    every = tensors(folder)
    every["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    (folder / "config.json").write_text(json.dumps(LLAMA | {"tie_word_embeddings": True}))
    save_file(every, folder / "model.safetensors")
    assert load_decoder(folder, tokens_max=8).config.tied


def test_a_tensor_in_two_shards_is_refused(folder: Path) -> None:
    parts = two_parts(folder)
    parts["model-00003-of-00003.safetensors"] = {QUERY: torch.zeros(96, 96)}
    save_shards(folder, parts)
    assert refusal(folder) == f"tensor {QUERY} is in more than one shard"


def test_a_missing_shard_is_refused_by_name(folder: Path) -> None:
    save_shards(folder, two_parts(folder))
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert refusal(folder) == "shard model-00002-of-00002.safetensors is missing"


def test_a_tensor_that_its_shard_does_not_hold_is_missing(folder: Path) -> None:
    parts = two_parts(folder)
    save_shards(folder, parts)
    last = parts["model-00002-of-00002.safetensors"]
    del last[QUERY]
    save_file(last, folder / "model-00002-of-00002.safetensors")
    assert refusal(folder) == f"tensor {QUERY} is missing"


@pytest.mark.parametrize(
    "name",
    ["../model.safetensors", "/etc/model.safetensors", "a/b.safetensors", "model.bin", "", ".safetensors", "x" * 200],
)
def test_an_index_that_names_anything_but_a_file_beside_it_is_refused(folder: Path, name: str) -> None:
    write_index(folder, {"lm_head.weight": name})
    assert "want 1 to 4096 plain names of .safetensors files" in refusal(folder)


@pytest.mark.parametrize("weight_map", [{}, [], None, {"lm_head.weight": 1}])
def test_an_index_that_is_malformed_is_refused(folder: Path, weight_map: object) -> None:
    write_index(folder, weight_map)
    assert INDEX in refusal(folder)


def test_other_formats_are_not_read(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    assert refusal(folder) == "neither model.safetensors nor an index of its shards is there; no other format is read"


def header(text: str, data: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text.encode() + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 7,
        (1 << 63).to_bytes(8, "little"),
        (1 << 20).to_bytes(8, "little") + b"{}",
        header("not json"),
        header('{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}', b"\x00" * 4),
        header('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}}', b"\x00" * 8),
        header('{"a": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 0]}}'),
        header('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]}}', b"\x00" * 8),
    ],
)
def test_a_malformed_file_is_refused(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    assert "model.safetensors is not a safetensors file" in refusal(folder)


@pytest.mark.parametrize(
    ("stored", "asked", "kept"),
    [
        (torch.float32, None, torch.float32),
        (torch.float16, None, torch.float32),
        (torch.bfloat16, None, torch.bfloat16),
        (torch.bfloat16, torch.float32, torch.float32),
        (torch.float32, torch.bfloat16, torch.bfloat16),
    ],
)
def test_a_cpu_keeps_bf16_and_widens_fp16_unless_told(
    folder: Path, stored: torch.dtype, asked: torch.dtype | None, kept: torch.dtype
) -> None:
    save_file({name: tensor.to(stored) for name, tensor in tensors(folder).items()}, folder / "model.safetensors")
    config = ModelConfig.from_folder(folder)
    weights = load_weights(config, Checkpoint(folder), "cpu", asked)
    assert weights.embedding.dtype == kept
    assert weights.norm.dtype == torch.float32


def test_a_cpu_does_not_compute_with_fp16_weights(folder: Path) -> None:
    save_file(tensors(folder), folder / "model.safetensors")
    assert "torch.float16 are not served on cpu" in refusal(folder, weight_dtype=torch.float16)


def test_a_file_that_changes_after_the_load_changes_nothing(folder: Path) -> None:
    file = folder / "model.safetensors"
    save_file(tensors(folder), file)
    weights = load_weights(ModelConfig.from_folder(folder), Checkpoint(folder), "cpu", None)
    with file.open("r+b") as stream:
        stream.seek(8 + int.from_bytes(stream.read(8), "little"))
        stream.write(bytes(file.stat().st_size - stream.tell()))
    kept = [weights.embedding, weights.norm, weights.layers[0].input_norm, weights.layers[2].mlp_norm]
    assert all(bool((tensor == 0.01).all()) for tensor in kept)
