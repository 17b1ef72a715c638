"""Tensors between a front end and a tensor engine: typed, shaped bytes in one buffer, checked when it is read.

    u32 tensors, then for each: u16 bytes of name · name · u8 datatype · u8 dimensions · i64 each · u64 bytes · bytes

Little endian. Elements lie in row-major order, as in the Open Inference Protocol's binary tensors; those of BYTES are
each a u32 length and so many bytes.
"""

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aruntime.wire.control import TensorSpec

# The protocol's names and the bytes of one element; BYTES elements have lengths of their own.
DATATYPES = {
    "BOOL": 1, "UINT8": 1, "UINT16": 2, "UINT32": 4, "UINT64": 8, "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8,
    "FP16": 2, "FP32": 4, "FP64": 8, "BYTES": 0, "BF16": 2,
}  # fmt: skip
_NUMBERS = {name: number for number, name in enumerate(DATATYPES)}
_NAMES = list(DATATYPES)

TENSORS_MAX = 64
DIMENSIONS_MAX = 16
NAME_BYTES_MAX = 256
BYTES_ELEMENTS_MAX = 1 << 16  # each is found by walking over all before it

_COUNT = struct.Struct("<I")
_NAME = struct.Struct("<H")
_KIND = struct.Struct("<BB")
_SIZE = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Tensor:
    """`data` holds the elements of `shape` in row-major order, little endian."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes | memoryview


def elements(shape: Iterable[int]) -> int:
    """How many elements a tensor of `shape` has."""
    return math.prod(shape)


def check_data(tensor: Tensor) -> None:
    """ValueError when the bytes of `tensor` are not those of its datatype and shape."""
    want, size = elements(tensor.shape), DATATYPES[tensor.datatype]
    if size:
        if len(tensor.data) != want * size:
            raise ValueError(f"{want} elements of {tensor.datatype} are {want * size} bytes, got {len(tensor.data)}")
        return
    if (count := len(split_bytes(tensor.data, want))) != want:
        raise ValueError(f"the shape has {want} elements, the data {count}")


def has_shape(tensor: Tensor, spec: TensorSpec) -> bool:
    """Whether the tensor's shape is one that `spec` takes."""
    return len(tensor.shape) == len(spec.shape) and all(
        want in (-1, size) for want, size in zip(spec.shape, tensor.shape, strict=True)
    )


def check_inputs(tensors: Sequence[Tensor], specs: Sequence[TensorSpec]) -> None:
    """ValueError names the first of `tensors` that is missing, unknown, there twice, or not what its spec says."""
    given = {tensor.name: tensor for tensor in tensors}
    wanted = {spec.name: spec for spec in specs}
    for name in [*(tensor.name for tensor in tensors), *wanted]:
        if name not in wanted:
            raise ValueError(f"{name[:80]}: this model has no such input")
        if name not in given:
            raise ValueError(f"{name}: this input is missing")
        want, got = wanted[name], given[name]
        if got.datatype != want.datatype:
            raise ValueError(f"{name}: want {want.datatype}, got {got.datatype}")
        if not has_shape(got, want):
            raise ValueError(f"{name}: want shape {want.shape}, got {list(got.shape)}")
    if len(tensors) != len(given):
        raise ValueError("an input is there twice")


def split_bytes(data: bytes | memoryview, elements_max: int = BYTES_ELEMENTS_MAX) -> list[bytes]:
    """The elements of a BYTES tensor. ValueError when a length leads out of the data, or there are too many."""
    found: list[bytes] = []
    at, elements_max = 0, min(elements_max, BYTES_ELEMENTS_MAX)
    while at < len(data):
        if len(found) >= elements_max:
            raise ValueError(f"more than {elements_max} elements")
        if at + 4 > len(data):
            raise ValueError("a length is cut short")
        (size,) = _COUNT.unpack_from(data, at)
        at += 4
        if size > len(data) - at:
            raise ValueError("an element is cut short")
        found.append(bytes(data[at : at + size]))
        at += size
    return found


def join_bytes(elements: Iterable[bytes]) -> bytes:
    """The data of a BYTES tensor."""
    return b"".join(_COUNT.pack(len(element)) + element for element in elements)


def encode(tensors: Iterable[Tensor]) -> bytes:
    """The buffer."""
    parts: list[bytes | memoryview] = []
    listed = list(tensors)
    for tensor in listed:
        name = tensor.name.encode()
        parts += [_NAME.pack(len(name)), name, _KIND.pack(_NUMBERS[tensor.datatype], len(tensor.shape))]
        parts += [struct.pack(f"<{len(tensor.shape)}q", *tensor.shape), _SIZE.pack(len(tensor.data)), tensor.data]
    return b"".join([_COUNT.pack(len(listed)), *parts])


def decode(buffer: bytes | memoryview) -> list[Tensor]:
    """Read a buffer; the data of the tensors are views of it. ValueError says what is wrong with it."""
    view = memoryview(buffer)
    try:
        (count,) = _COUNT.unpack_from(view, 0)
        if count > TENSORS_MAX:
            raise ValueError(f"{count} tensors, at most {TENSORS_MAX}")
        at, found = _COUNT.size, []
        for _ in range(count):
            tensor, at = _decode_one(view, at)
            found.append(tensor)
    except (struct.error, UnicodeDecodeError):
        raise ValueError("a tensor is cut short") from None
    if at != len(view):
        raise ValueError(f"{len(view) - at} bytes after the last tensor")
    return found


def _decode_one(view: memoryview, at: int) -> tuple[Tensor, int]:
    (size,) = _NAME.unpack_from(view, at)
    at += _NAME.size
    if size > NAME_BYTES_MAX or size > len(view) - at:
        raise ValueError("a tensor's name is cut short or too long")
    name = bytes(view[at : at + size]).decode()
    at += size
    datatype, dimensions = _KIND.unpack_from(view, at)
    at += _KIND.size
    if datatype >= len(_NAMES) or dimensions > DIMENSIONS_MAX:
        raise ValueError(f"{name}: no such datatype, or more than {DIMENSIONS_MAX} dimensions")
    shape = struct.unpack_from(f"<{dimensions}q", view, at)
    at += 8 * dimensions
    (length,) = _SIZE.unpack_from(view, at)
    at += _SIZE.size
    if length > len(view) - at or any(size < 0 for size in shape):
        raise ValueError(f"{name}: its data are cut short, or a size is negative")
    tensor = Tensor(name, _NAMES[datatype], shape, view[at : at + length])
    check_data(tensor)
    return tensor, at + length
