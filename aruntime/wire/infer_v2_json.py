"""Tensors as JSON: lists become the bytes of a tensor and back.

    {"shape": [2, 2], "data": [1, 2, 3, 4]}   or nested as the shape says:   "data": [[1, 2], [3, 4]]

A number must be what its datatype holds: no boolean for an integer, nothing out of range, nothing infinite. Texts are
the elements of BYTES. FP16 and BF16 have no JSON form.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aruntime.wire.tensors import BYTES_ELEMENTS_MAX, Tensor, elements, join_bytes, split_bytes

_DTYPES = {
    "BOOL": np.dtype("?"), "UINT8": np.dtype("u1"), "UINT16": np.dtype("<u2"), "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"), "INT8": np.dtype("i1"), "INT16": np.dtype("<i2"), "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8"),
}  # fmt: skip


def pack(datatype: str, shape: Sequence[int], data: object) -> bytes:
    """The bytes of a tensor whose elements are `data`. ValueError says what is wrong with it."""
    if not isinstance(data, list):
        raise ValueError("want a list")
    flat = _flatten(data, shape)
    if len(flat) != elements(shape):
        raise ValueError(f"the shape has {elements(shape)} elements, the data {len(flat)}")
    if datatype == "BYTES":
        if len(flat) > BYTES_ELEMENTS_MAX:
            raise ValueError(f"more than {BYTES_ELEMENTS_MAX} elements")
        _check_types(flat, (str,), "texts")
        return join_bytes([text.encode() for text in flat])
    if not has_json_form(datatype):
        raise ValueError(f"{datatype} is sent as binary data only")
    return _array(flat, _DTYPES[datatype]).tobytes()


def unpack(tensor: Tensor) -> NDArray[Any] | list[str]:
    """The elements of a tensor in row-major order, for JSON. ValueError when they have no JSON form."""
    if tensor.datatype == "BYTES":
        try:
            return [element.decode() for element in split_bytes(tensor.data)]
        except UnicodeDecodeError:
            raise ValueError("its elements are not UTF-8: ask for binary_data") from None
    if not has_json_form(tensor.datatype):
        raise ValueError(f"{tensor.datatype} is answered as binary data only: ask for binary_data")
    # A copy, because a view of the buffer may begin at any byte.
    return np.frombuffer(bytes(tensor.data), _DTYPES[tensor.datatype])


def has_json_form(datatype: str) -> bool:
    """Whether tensors of `datatype` can be sent as JSON."""
    return datatype == "BYTES" or datatype in _DTYPES


def _flatten(data: list[Any], shape: Sequence[int]) -> list[Any]:
    """The elements of `data`, which is flat already or nested exactly as `shape`."""
    if not data or not isinstance(data[0], list):
        return data
    if len(data) != shape[0]:
        raise ValueError(f"want {shape[0]} lists, got {len(data)}")
    for size in shape[1:]:
        if any(type(row) is not list or len(row) != size for row in data):
            raise ValueError("it is not nested as the shape says")
        data = list(chain.from_iterable(data))
    return data


def _array(flat: list[Any], dtype: "np.dtype[Any]") -> NDArray[Any]:
    if dtype.kind == "b":
        _check_types(flat, (bool,), "true and false")
        return np.array(flat, dtype)
    if dtype.kind == "f":
        _check_types(flat, (float, int), "numbers")
        with np.errstate(over="ignore"):
            array = np.array(flat, np.float64).astype(dtype)
        if not np.isfinite(array).all():
            raise ValueError("a number is out of range")
        return array
    _check_types(flat, (int,), "integers")
    bounds = np.iinfo(dtype)
    if flat and (min(flat) < bounds.min or max(flat) > bounds.max):
        raise ValueError(f"want integers from {bounds.min} to {bounds.max}")
    return np.array(flat, dtype)


def _check_types(flat: list[Any], kinds: tuple[type, ...], words: str) -> None:
    if not set(map(type, flat)) <= set(kinds):
        raise ValueError(f"want {words} only")
