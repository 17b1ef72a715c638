"""What a version will take is known before it loads: never less than it takes, and not absurdly more."""

import json
import struct
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
from aruntime.model.footprint import Footprint, measure
from aruntime.model.headers import read_headers
from aruntime.model.weights import tensor_shapes
from aruntime.queue.channel import create_bell
from aruntime.queue.columns import COLUMNS, TABLE_ROWS
from aruntime.queue.post import pair
from aruntime.queue.table import create_table
from aruntime.wire import control

DEMO = Path(__file__).parents[2] / "examples" / "repository" / "demo" / "1"
HOUSE = {"dtype": "checkpoint", "cache_dtype": "checkpoint", "block_tokens": 16}
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
    """What an engine process has of its own once it has loaded and warmed the folder.

    Not the pages of libraries and of the checkpoint: the kernel maps more or fewer of them as it likes, and drops them.
    """
    mine, theirs = pair()
    command = python("aruntime.engine.main", "--control-fd", str(theirs.fileno()), "--log-level", "error")
    engine = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment())
    theirs.close()
    bounds = control.Bounds(waiting_max=256, waiting_tokens_max=1 << 20, ttft_s=2.0, itl_s=0.1)
    load = control.Load(
        replica=0, model="m", version=1, folder=str(folder), device="cpu", threads=2, bounds=bounds, **HOUSE, **numbers
    )  # type: ignore[arg-type]
    try:
        mine.send(control.encode(load), (create_table(TABLE_ROWS, COLUMNS), create_bell()))
        kinds = [
            control.decode(letter.data, len(letter.fds)).kind for letter in (mine.receive(), mine.receive()) if letter
        ]
        assert kinds == ["loaded", "ready"]
        status = Path(f"/proc/{engine.pid}/status").read_text()
        return 1024 * sum(int(status.partition(f"{kind}:")[2].split()[0]) for kind in ("RssAnon", "RssShmem"))
    finally:
        engine.kill()
        engine.wait()
        mine.close()


@pytest.mark.parametrize("tied", [True, False])
def test_an_engine_takes_no_more_than_was_reckoned_and_not_much_less(tmp_path: Path, tied: bool) -> None:
    folder = DEMO if tied else write_checkpoint(
        tmp_path / "wide", "float16", hidden_size=1024, intermediate_size=4096, num_hidden_layers=3, vocab_size=8192,
        num_attention_heads=16, num_key_value_heads=8, max_position_embeddings=2048,
    )  # fmt: skip
    numbers = {"sequences_max": 32, "step_tokens_max": 256, "cache_bytes": 64 << 20}
    reckoned = measure(folder, "cpu", **HOUSE, **numbers)  # type: ignore[arg-type]
    taken = resident_bytes(folder, **numbers)
    assert taken <= reckoned.bytes_max <= TOO_MUCH * taken + SLACK_BYTES


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("tied", [True, False])
def test_weights_are_reckoned_as_the_decoder_holds_them(tmp_path: Path, tied: bool, dtype: str) -> None:
    folder = write_checkpoint(
        tmp_path / "c", dtype, tie_word_embeddings=tied, attention_bias=True, hidden_size=256, intermediate_size=672
    )
    reckoned = measure(folder, "cpu", **HOUSE, sequences_max=4, step_tokens_max=16, cache_bytes=1 << 20)  # type: ignore[arg-type]
    held = load_decoder(folder, tokens_max=16).weight_bytes
    assert held <= reckoned.weight_bytes <= held * 1.1  # the pages and panels of the parts of fused matrices


def test_a_tied_embedding_counts_twice_on_a_cpu_and_once_on_a_gpu(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", tie_word_embeddings=True, vocab_size=32_768)
    reckoned = {
        device: measure(folder, device, **HOUSE, sequences_max=1, step_tokens_max=16, cache_bytes=1 << 20)
        for device in ("cpu", "cuda")
    }  # type: ignore[arg-type]
    embedding = 32_768 * 64 * 4
    assert 2 * embedding < reckoned["cpu"].weight_bytes < 2.1 * embedding
    assert embedding < reckoned["cuda"].weight_bytes < 1.1 * embedding


@given(sequences=st.integers(1, 8), heads=st.integers(1, 8), context=st.integers(1, 5000))
def test_the_parts_of_attention_are_those_of_the_kernel(sequences: int, heads: int, context: int) -> None:
    chunks = -(-context // footprint_room._ATTENTION_CHUNK)
    room = decode_workspace(sequences, heads, 64, context, "meta")
    assert room.numel() == sequences * heads * chunks * (64 + footprint_room._ATTENTION_EXTRA)


@pytest.mark.parametrize(
    ("wanted", "floor", "want_min", "want_max"),
    [
        (1 << 30, None, 16 * 8192, 4 * 16 * 8192),  # no more than four full contexts could use; one is the floor
        (100_000, None, 12 * 8192, 12 * 8192),  # whole blocks, and the floor no higher than what is wanted
        (1 << 30, 20_000, 20_000, 4 * 16 * 8192),
        (1 << 30, 1, 8192, 4 * 16 * 8192),  # one block at least
    ],
)
def test_the_cache_is_what_can_be_used_and_its_floor_one_context(
    tmp_path: Path, wanted: int, floor: int | None, want_min: int, want_max: int
) -> None:
    folder = write_checkpoint(tmp_path / "c")  # a block: 2 tensors, 2 layers, 16 tokens, 32 numbers of 4 bytes
    reckoned = measure(
        folder, "cpu", **HOUSE, sequences_max=4, step_tokens_max=16, cache_bytes=wanted, cache_bytes_min=floor
    )  # type: ignore[arg-type]
    assert (reckoned.cache_bytes_min, reckoned.cache_bytes) == (want_min, want_max)


def test_a_cache_of_less_than_a_block_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointRefused, match="one cache block takes 8192 bytes, cache_bytes is 8191"):
        measure(write_checkpoint(tmp_path / "c"), "cpu", **HOUSE, sequences_max=4, step_tokens_max=16, cache_bytes=8191)  # type: ignore[arg-type]


def test_a_tensor_model_counts_its_graph_and_its_data(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"g" * 1000)
    (tmp_path / "weights.onnx_data").write_bytes(b"d" * 5000)
    (tmp_path / "README.md").write_bytes(b"r" * 7000)
    reckoned = measure(
        tmp_path, "cpu", engine="onnx", **HOUSE, sequences_max=4, step_tokens_max=16, cache_bytes=1 << 20
    )  # type: ignore[arg-type]
    assert reckoned == Footprint(3 * 6000, footprint_room.PROCESS_BYTES["cpu"], 0, 0)


def written(folder: Path, header: bytes, data: bytes = b"", length: int | None = None) -> Path:
    prefix = struct.pack("<Q", len(header) if length is None else length)
    (folder / "model.safetensors").write_bytes(prefix + header + data)
    return folder


def entry(**changes: object) -> bytes:
    return json.dumps({"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]} | changes}).encode()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dtype": "F8"}, "want F32"),
        ({"dtype": 3}, "want a text"),
        ({"shape": [2, -2]}, "shape"),
        ({"shape": [2, True]}, "shape"),
        ({"shape": [1] * 9}, "shape"),
        ({"shape": [2, 3]}, "data_offsets"),
        ({"shape": [1 << 32, 1 << 32]}, "too large for any machine"),
        ({"shape": [1 << 62, 4]}, "too large for any machine"),  # 2**64 + … wraps to a small number in 64 bits
        ({"shape": [0, 1 << 64]}, "shape"),
        ({"data_offsets": [0, 17]}, "data_offsets"),
        ({"data_offsets": [16, 0]}, "data_offsets"),
        ({"data_offsets": [-16, 0]}, "data_offsets"),
        ({"data_offsets": [0, 16, 16]}, "data_offsets"),
        ({"data_offsets": None}, "data_offsets"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(CheckpointRefused, match=words):
        list(read_headers(written(tmp_path, entry(**changes), b"\0" * 16)))


@pytest.mark.parametrize("header", [b"", b"[]", b"{", b"[" * 100_000, b'{"w": 3}', b'{"w": {}}', b"\xff\xfe"])
def test_a_header_that_is_none_is_refused(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(CheckpointRefused):
        list(read_headers(written(tmp_path, header)))


@pytest.mark.parametrize("length", [1, 1 << 20, 1 << 40, (1 << 64) - 1])
def test_a_length_that_lies_reads_nothing(tmp_path: Path, length: int) -> None:
    with pytest.raises(CheckpointRefused):
        list(read_headers(written(tmp_path, entry(), b"", length)))


def test_headers_read_the_same_as_the_library(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "c", "float16")
    shapes = tensor_shapes(footprint_room.ModelConfig.from_folder(folder))
    assert {header.name: header.shape for header in read_headers(folder)} == shapes
    assert {header.dtype for header in read_headers(folder)} == {"F16"}


def test_it_is_reckoned_without_torch() -> None:
    code = "import sys, aruntime.model.footprint; sys.exit('torch' in sys.modules or 'safetensors' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], env=environment()).returncode == 0
