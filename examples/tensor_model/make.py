"""Writes a tensor model that finds edges in pictures: the strength of the gradient, by Sobel's operators.

    python examples/tensor_model/make.py /tmp/edges        needs the package onnx
    aruntime models add edges /tmp/edges

    picture [n, 1, height, width] FP32  ──►  edges [n, 1, height, width] FP32

Any number of pictures of any size; those of one size share a run.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SOBEL = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]], np.float32)


def make() -> onnx.ModelProto:
    """The model: both gradients in one convolution, then their length."""
    shape = ["n", 1, "height", "width"]
    kernels = numpy_helper.from_array(np.stack([SOBEL, SOBEL.T])[:, None], "kernels")
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    nodes = [
        helper.make_node("Pad", ["picture", "border"], ["padded"], mode="edge"),
        helper.make_node("Conv", ["padded", "kernels"], ["gradients"]),
        helper.make_node("ReduceL2", ["gradients", "axes"], ["edges"]),
    ]
    border = numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64), "border")
    graph = helper.make_graph(
        nodes,
        "edges",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("edges", TensorProto.FLOAT, shape)],
        [kernels, border, axes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(make(), folder / "model.onnx")


if __name__ == "__main__":
    main()
