"""An ONNX model in onnxruntime: what it takes and gives in the Open Inference Protocol's words, and one run of it.

    model.onnx               the graph; weights may lie beside it in files of their own
    Tensor (bytes)  ──to_array──►  numpy  ──run──►  numpy  ──to_tensor──►  Tensor

No library of custom operators is ever loaded, and onnxruntime reads external weights from within the folder only.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aruntime.model.config import CheckpointRefused
from aruntime.wire.control import TensorSpec
from aruntime.wire.tensors import DIMENSIONS_MAX, NAME_BYTES_MAX, TENSORS_MAX, Tensor, join_bytes, split_bytes

MODEL_FILE = "model.onnx"

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]
Arrays = Mapping[str, Array]

# onnxruntime's names, the protocol's, and numpy's.
_TYPES: dict[str, tuple[str, Any]] = {
    "tensor(bool)": ("BOOL", np.bool_),
    "tensor(uint8)": ("UINT8", np.uint8),
    "tensor(uint16)": ("UINT16", np.uint16),
    "tensor(uint32)": ("UINT32", np.uint32),
    "tensor(uint64)": ("UINT64", np.uint64),
    "tensor(int8)": ("INT8", np.int8),
    "tensor(int16)": ("INT16", np.int16),
    "tensor(int32)": ("INT32", np.int32),
    "tensor(int64)": ("INT64", np.int64),
    "tensor(float16)": ("FP16", np.float16),
    "tensor(float)": ("FP32", np.float32),
    "tensor(double)": ("FP64", np.float64),
    "tensor(string)": ("BYTES", np.object_),
}
DTYPES: dict[str, Any] = dict(_TYPES.values())


class TensorSession:
    """One loaded model. `run` may be called by one thread at a time."""

    def __init__(self, session: Any, weight_bytes: int, target: str) -> None:
        self.inputs = _specs(session.get_inputs(), "input")
        self.outputs = _specs(session.get_outputs(), "output")
        self.weight_bytes = weight_bytes
        self.target = target
        self._session = session

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """All outputs by name. Any exception means that these inputs could not be computed."""
        values = self._session.run(None, dict(inputs))
        return {spec.name: np.asarray(value) for spec, value in zip(self.outputs, values, strict=True)}

    @property
    def has_rows(self) -> bool:
        """Whether the first size of every input and output is free: such requests can be put together along it."""
        return all(spec.shape[:1] == [-1] for spec in [*self.inputs, *self.outputs])


def open_session(folder: Path, device: str, threads: int) -> TensorSession:
    """Load `model.onnx` of `folder` for `device` (cpu, cuda, auto). CheckpointRefused says why it cannot be served."""
    try:
        import onnxruntime  # an extra, and only tensor engines pay for it
    except ImportError:
        raise CheckpointRefused("onnxruntime is not installed: it comes with the extra aruntime[onnx]") from None
    path = folder / MODEL_FILE
    if not path.is_file():
        raise CheckpointRefused(f"there is no {MODEL_FILE}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # its words come with its exceptions
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other engines need the cores
    providers = ["CPUExecutionProvider"]
    if device != "cpu" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, "CUDAExecutionProvider")
    elif device == "cuda":
        raise CheckpointRefused("this onnxruntime has no CUDA provider")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # its exceptions have no type in common
        raise CheckpointRefused(f"{MODEL_FILE} cannot be loaded: {_reason(error, folder)}") from None
    weight_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return TensorSession(session, weight_bytes, "cuda" if len(providers) > 1 else "cpu")


def to_array(tensor: Tensor) -> Array:
    """A read-only view of numbers, or text of BYTES. ValueError when those are not UTF-8."""
    if tensor.datatype == "BYTES":
        try:
            text = [element.decode() for element in split_bytes(tensor.data)]
        except UnicodeDecodeError:
            raise ValueError(f"{tensor.name}: an element is not UTF-8, which is what this model takes") from None
        return np.array(text, dtype=np.object_).reshape(tensor.shape)
    if tensor.datatype == "BOOL":
        return np.frombuffer(tensor.data, np.uint8).reshape(tensor.shape).astype(np.bool_)  # to C++ a bool is 0 or 1
    numbers: Array = np.frombuffer(tensor.data, DTYPES[tensor.datatype])
    return numbers.reshape(tensor.shape)


def to_tensor(spec: TensorSpec, array: Array) -> Tensor:
    """An output as bytes. ValueError when it is not of the datatype that the model has promised."""
    if spec.datatype == "BYTES":
        data = join_bytes(str(element).encode() for element in array.ravel())
    elif array.dtype == DTYPES[spec.datatype]:
        data = array.tobytes()
    else:
        raise ValueError(f"{spec.name}: want {spec.datatype}, got {array.dtype}")
    return Tensor(spec.name, spec.datatype, array.shape, data)


def sample(specs: list[TensorSpec], rows: range) -> dict[str, Array]:
    """Inputs for trying a model out: row `i` is all zeros or all ones, by turns; free sizes are 1."""
    found: dict[str, Array] = {}
    for spec in specs:
        shape = [1 if size < 0 else size for size in spec.shape]
        values = [
            np.full(shape, "01"[i % 2] if spec.datatype == "BYTES" else i % 2, DTYPES[spec.datatype]) for i in rows
        ]
        found[spec.name] = np.concatenate(values) if len(values) > 1 else values[0]
    return found


def _specs(values: list[Any], word: str) -> list[TensorSpec]:
    if not 1 <= len(values) <= TENSORS_MAX:
        raise CheckpointRefused(f"{len(values)} {word}s, want 1 to {TENSORS_MAX}")
    return [_spec(value, word) for value in values]


def _spec(value: Any, word: str) -> TensorSpec:
    if value.type not in _TYPES:
        raise CheckpointRefused(f"{word} {value.name[:80]} is of type {value.type}, which is not served")
    if not 1 <= len(value.name.encode()) <= NAME_BYTES_MAX or len(value.shape) > DIMENSIONS_MAX:
        raise CheckpointRefused(
            f"an {word}'s name is longer than {NAME_BYTES_MAX} bytes, or it has too many dimensions"
        )
    shape = [size if isinstance(size, int) and size >= 0 else -1 for size in value.shape]
    return TensorSpec(name=value.name, datatype=_TYPES[value.type][0], shape=shape)


def _reason(error: Exception, folder: Path) -> str:
    """The first line of what onnxruntime says, without where the file lies."""
    text = str(error).replace(f"{folder}/", "").replace(str(folder), ".")
    return (text.splitlines() or [type(error).__name__])[0][:300]
