"""What the Open Inference Protocol says of models: metadata, config, and tensors checked against them.

In a model's shapes -1 is any size; the first dimension is the batch when it is free.
"""

from collections.abc import Sequence
from typing import Any

from aruntime.wire.body import refusal
from aruntime.wire.control import TensorSpec
from aruntime.wire.infer_v2 import InferRequest
from aruntime.wire.infer_v2_json import has_json_form
from aruntime.wire.infer_v2_text import OPTIONAL
from aruntime.wire.tensors import Tensor, has_shape

PLATFORMS = {"decoder": "aruntime_decoder", "onnx": "onnxruntime_onnx"}


def metadata(
    name: str, versions: Sequence[int], engine: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> dict[str, Any]:
    """The answer to GET /v2/models/{model}."""
    return {
        "name": name,
        "versions": [str(version) for version in versions],
        "platform": PLATFORMS[engine],
        "inputs": [spec.model_dump() for spec in inputs],
        "outputs": [spec.model_dump() for spec in outputs],
    }


def config(name: str, engine: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> dict[str, Any]:
    """The answer to GET /v2/models/{model}/config. `dims` are whole shapes, as `max_batch_size` 0 means."""
    return {
        "name": name,
        "platform": PLATFORMS[engine],
        "backend": PLATFORMS[engine].partition("_")[0],
        "max_batch_size": 0,
        "input": [_configured(spec) | ({"optional": True} if spec.name in OPTIONAL else {}) for spec in inputs],
        "output": [_configured(spec) for spec in outputs],
    }


def _configured(spec: TensorSpec) -> dict[str, Any]:
    datatype = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{datatype}", "dims": spec.shape}


def check_inputs(request: InferRequest, specs: Sequence[TensorSpec]) -> int:
    """How many rows a request has for a model that takes `specs`. InvalidRequest names the first wrong input."""
    known = {spec.name: spec for spec in specs}
    rows: int | None = None
    for i, tensor in enumerate(request.inputs):
        spec = known.pop(tensor.name, None)
        if spec is None:
            raise refusal(f"inputs.{i}.name", f"no such input: want {', '.join(spec.name for spec in specs)}")
        _check_input(f"inputs.{i}", tensor, spec)
        if spec.shape and spec.shape[0] == -1:
            rows = tensor.shape[0] if rows is None else rows
            if tensor.shape[0] != rows or rows < 1:
                raise refusal(f"inputs.{i}.shape", "want as many rows as the other inputs have, at least one")
    if known:
        raise refusal("inputs", f"{next(iter(known))} is missing")
    return 1 if rows is None else rows


def _check_input(param: str, tensor: Tensor, spec: TensorSpec) -> None:
    if tensor.datatype != spec.datatype:
        raise refusal(f"{param}.datatype", f"want {spec.datatype}")
    if not has_shape(tensor, spec):
        raise refusal(f"{param}.shape", f"want {spec.shape}")


def check_outputs(request: InferRequest, specs: Sequence[TensorSpec]) -> None:
    """InvalidRequest when a wanted output is none of the model's, or is wanted as JSON and has no such form."""
    known = {spec.name: spec for spec in specs}
    for i, name in enumerate(request.outputs or known):
        if name not in known:
            raise refusal(f"outputs.{i}.name", f"no such output: want {', '.join(known)}")
        if not has_json_form(known[name].datatype) and not request.is_binary(name):
            raise refusal("outputs", f"{name} is {known[name].datatype}: ask for it as binary data")


def select_outputs(request: InferRequest, outputs: Sequence[Tensor]) -> list[Tensor]:
    """The wanted ones of a model's outputs, in the order in which they were asked for; all when none were."""
    if not request.outputs:
        return list(outputs)
    known = {tensor.name: tensor for tensor in outputs}
    return [known[name] for name in request.outputs if name in known]
