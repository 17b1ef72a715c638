"""What a version will take is known before it loads: never less than it takes, and not absurdly more."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from aruntime_kernels.decode_attention import decode_workspace
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from aruntime.control.launcher import environment, python
from aruntime.model import footprint as footprint_room
from aruntime.model.decoder import load_decoder
from aruntime.model.fields import CheckpointRefused
from aruntime.model.footprint import Footprint, decoder_footprint, tensor_footprint
from aruntime.model.weights import tensor_shapes
from aruntime.queue.channel import create_bell
from aruntime.queue.columns import COLUMNS, TABLE_ROWS
from aruntime.queue.post import pair
from aruntime.queue.table import create_table
from aruntime.wire import control

DEMO = Path(__file__).parents[2] / "examples" / "repository" / "demo" / "1"
# What the estimate may have above the resident set: half of it, and what the process keeps for prompts and front ends.
TOO_MUCH, SLACK_BYTES = 1.5, 128 << 20


def write_checkpoint(folder: Path, dtype: str = "float32", **changes: object) -> Path:
    """A Llama of zeros; `changes` are fields of config.json."""
    config = {
        "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 96, "max_position_embeddings": 256, "vocab_size": 97,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
    } | changes  # fmt: skip
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    shapes = tensor_shapes(footprint_room.ModelConfig.from_folder(folder))
    save_file({name: np.zeros(shape, dtype) for name, shape in shapes.items()}, folder / "model.safetensors")
    return folder


def resident_bytes(folder: Path, **numbers: int) -> int:
    """The resident set of an engine process that has loaded and warmed the folder."""
    mine, theirs = pair()
    command = python("aruntime.engine.main", "--control-fd", str(theirs.fileno()), "--log-level", "error")
    engine = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment())
    theirs.close()
    bounds = control.Bounds(waiting_max=256, waiting_tokens_max=1 << 20, ttft_s=2.0, itl_s=0.1)
    load = control.Load(
        replica=0,
        model="m",
        version=1,
        folder=str(folder),
        device="cpu",
        threads=2,
        bounds=bounds,
        dtype="checkpoint",
        cache_dtype="checkpoint",
        block_tokens=16,
        **numbers,
    )
    try:
        mine.send(control.encode(load), (create_table(TABLE_ROWS, COLUMNS), create_bell()))
        kinds = [
            control.decode(letter.data, len(letter.fds)).kind for letter in (mine.receive(), mine.receive()) if letter
        ]
        assert kinds == ["loaded", "ready"]
        status = Path(f"/proc/{engine.pid}/status").read_text()
        return 1024 * int(status.partition("VmRSS:")[2].split()[0])
    finally:
        engine.kill()
        engine.wait()
        mine.close()


def reckon(folder: Path, on_cpu: bool = True, cache_bytes_min: int | None = None, **numbers: int) -> Footprint:
    """Its footprint: four sequences and steps of 16 tokens in 1 MiB of cache, unless `numbers` say otherwise."""
    return decoder_footprint(
        folder,
        on_cpu=on_cpu,
        dtype="checkpoint",
        cache_dtype="checkpoint",
        block_tokens=16,
        cache_bytes_min=cache_bytes_min,
        **{"sequences_max": 4, "step_tokens_max": 16, "cache_bytes": 1 << 20} | numbers,
    )


@pytest.mark.parametrize("folder_of", ["demo", "wide"])
def test_an_engine_takes_no_more_than_was_reckoned_and_not_much_less(tmp_path: Path, folder_of: str) -> None:
    folder = DEMO if folder_of == "demo" else write_checkpoint(
        tmp_path / "wide", "float16", hidden_size=1024, intermediate_size=4096, num_hidden_layers=3, vocab_size=8192,
        num_attention_heads=16, num_key_value_heads=8, max_position_embeddings=2048,
    )  # fmt: skip
    numbers = {"sequences_max": 32, "step_tokens_max": 256, "cache_bytes": 64 << 20}
    reckoned = reckon(folder, **numbers)
    taken = resident_bytes(folder, **numbers)
    assert taken <= reckoned.fixed_bytes + reckoned.cache_bytes <= TOO_MUCH * taken + SLACK_BYTES


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("tied", [True, False])
def test_weights_are_reckoned_as_the_decoder_holds_them(tmp_path: Path, tied: bool, dtype: str) -> None:
    folder = write_checkpoint(
        tmp_path / "c", dtype, tie_word_embeddings=tied, attention_bias=True, hidden_size=256, intermediate_size=672,
        vocab_size=4096,
    )  # fmt: skip
    held = load_decoder(folder, tokens_max=16).weight_bytes
    assert reckon(folder).weight_bytes == pytest.approx(held, rel=0.01)  # pages and panels are not counted


def test_a_tied_embedding_counts_twice_on_a_cpu_and_once_on_a_gpu(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", tie_word_embeddings=True, vocab_size=32_768)
    embedding = 32_768 * 64 * 4
    assert 2 * embedding < reckon(folder, on_cpu=True).weight_bytes < 2.1 * embedding
    assert embedding < reckon(folder, on_cpu=False).weight_bytes < 1.1 * embedding


@given(sequences=st.integers(1, 8), heads=st.integers(1, 8), context=st.integers(1, 5000))
def test_the_parts_of_attention_are_those_of_the_kernel(sequences: int, heads: int, context: int) -> None:
    chunks = -(-context // footprint_room._CHUNK)
    room = decode_workspace(sequences, heads, 64, context, "meta")
    assert room.numel() == sequences * heads * chunks * (64 + footprint_room._EXTRA)


@pytest.mark.parametrize(
    ("wanted", "floor", "want_min", "want_max"),
    [
        (1 << 30, None, 16 * 8192, 4 * 16 * 8192),  # no more than four full contexts could use; one is the floor
        (98_304, None, 98_304, 98_304),  # the floor no higher than what is wanted
        (1 << 30, 20_000, 20_000, 4 * 16 * 8192),
        (1 << 30, 1, 8192, 4 * 16 * 8192),  # one block at least
    ],
)
def test_the_cache_is_what_can_be_used_and_its_floor_one_context(
    tmp_path: Path, wanted: int, floor: int | None, want_min: int, want_max: int
) -> None:
    folder = write_checkpoint(tmp_path / "c")  # a block: 2 tensors, 2 layers, 16 tokens, 32 numbers of 4 bytes
    reckoned = reckon(folder, cache_bytes=wanted, cache_bytes_min=floor)
    assert (reckoned.cache_bytes_min, reckoned.cache_bytes) == (want_min, want_max)


def test_a_tensor_model_counts_what_its_folder_holds(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"g" * 1000)
    (tmp_path / "weights.onnx_data").write_bytes(b"d" * 5000)
    assert tensor_footprint(tmp_path) == Footprint(
        footprint_room.ONNX_FACTOR * 6000, footprint_room.PROCESS_BYTES, 0, 0
    )


def test_replicas_count_one_by_one() -> None:
    assert Footprint(1, 2, 3, 4).times(3) == Footprint(3, 6, 9, 12)


@pytest.mark.parametrize("length", [0, 1, 1 << 20, 1 << 40, (1 << 64) - 1])
def test_weights_whose_head_lies_are_refused(tmp_path: Path, length: int) -> None:
    folder = write_checkpoint(tmp_path / "c")
    with (folder / "model.safetensors").open("r+b") as file:
        file.write(length.to_bytes(8, "little"))
    with pytest.raises(CheckpointRefused, match=r"model\.safetensors is not a safetensors file"):
        reckon(folder)


@pytest.mark.parametrize("shape", [[1 << 32, 1 << 32], [1 << 62, 4], [2, 3]])
def test_shapes_that_do_not_fit_their_bytes_are_refused(tmp_path: Path, shape: list[int]) -> None:
    folder = write_checkpoint(tmp_path / "c")
    head = json.dumps({"model.embed_tokens.weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, 16]}}).encode()
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + bytes(16))
    with pytest.raises(CheckpointRefused, match=r"model\.safetensors is not a safetensors file"):
        reckon(folder)


def test_it_is_reckoned_without_torch() -> None:
    code = "import sys, aruntime.model.footprint; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], env=environment()).returncode == 0
