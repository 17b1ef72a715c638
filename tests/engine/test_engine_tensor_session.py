"""What an ONNX file must be to be served, and what is said of it."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from engine_tensors import FLOAT, INT64, WEIGHT, add, echo, matmul, save, softmax, total
from onnx import TensorProto, helper

from aruntime.engine.tensor_replica import try_out
from aruntime.engine.tensor_session import open_session
from aruntime.model.config import CheckpointRefused


def test_inputs_and_outputs_are_said_in_the_protocols_words(tmp_path: Path) -> None:
    session = open_session(echo(tmp_path), "cpu", 1)
    assert [spec.model_dump() for spec in session.inputs] == [{"name": "x", "datatype": "BYTES", "shape": [-1]}]
    session = open_session(matmul(tmp_path), "auto", 1)
    assert [spec.model_dump() for spec in session.outputs] == [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}]
    assert session.weight_bytes >= WEIGHT.nbytes


@pytest.mark.parametrize(("model", "by_rows"), [(matmul, True), (add, True), (softmax, False), (total, False)])
def test_only_a_model_whose_rows_do_not_touch_each_other_is_batched(tmp_path: Path, model, by_rows: bool) -> None:  # type: ignore[no-untyped-def]
    assert try_out(open_session(model(tmp_path), "cpu", 1)) == (True, by_rows)


def test_a_model_that_cannot_be_tried_out_is_believed(tmp_path: Path) -> None:
    shape = onnx.numpy_helper.from_array(np.array([0, 2, 2], np.int64), "shape")
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])  # four numbers a row, which nobody can know
    save(tmp_path, [node], [("x", FLOAT, ["n", "k"])], [("y", FLOAT, ["n", 2, 2])], [shape])
    assert try_out(open_session(tmp_path, "cpu", 1)) == (False, True)


def refused(folder: Path) -> str:
    with pytest.raises(CheckpointRefused) as refusal:
        open_session(folder, "cpu", 1)
    assert str(folder) not in str(refusal.value)
    return str(refusal.value)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path) == "there is no model.onnx"


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x80\x04 no model")
    assert "cannot be loaded" in refused(tmp_path)


def test_operators_that_onnxruntime_does_not_bring_are_refused(tmp_path: Path) -> None:
    node = helper.make_node("Launder", ["x"], ["y"], domain="com.example")
    save(tmp_path, [node], [("x", FLOAT, ["n"])], [("y", FLOAT, ["n"])])
    assert "cannot be loaded" in refused(tmp_path)


def test_values_that_are_no_tensors_are_refused(tmp_path: Path) -> None:
    node = helper.make_node("SplitToSequence", ["x"], ["y"], axis=0)
    save(tmp_path, [node], [("x", INT64, ["n"])], [])
    model = onnx.load(tmp_path / "model.onnx")
    model.graph.output.append(helper.make_tensor_sequence_value_info("y", INT64, None))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    assert refused(tmp_path) == "output y is of type seq(tensor(int64)), which is not served"


@pytest.mark.parametrize("outside", ["../weights.bin", "{folder}/weights.bin"])
def test_weights_outside_of_the_folder_are_not_read(tmp_path: Path, outside: str) -> None:
    (tmp_path / "weights.bin").write_bytes(WEIGHT.tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    save_with_external(folder, outside.format(folder=tmp_path))
    assert "cannot be loaded" in refused(folder)


def test_weights_beside_the_model_are_read(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(WEIGHT.tobytes())
    save_with_external(tmp_path, "weights.bin")
    outputs = open_session(tmp_path, "cpu", 1).run({"x": np.ones((1, 3), np.float32)})
    assert np.allclose(outputs["y"], WEIGHT.sum(axis=0))


def test_without_onnxruntime_the_refusal_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert refused(matmul(tmp_path)) == "onnxruntime is not installed: it comes with the extra aruntime[onnx]"


def save_with_external(folder: Path, location: str) -> None:
    """y [n, 2] = x [n, 3] @ w, whose w lies in a file of its own."""
    weight = TensorProto(name="w", data_type=FLOAT, dims=WEIGHT.shape, data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    save(folder, [node], [("x", FLOAT, ["n", 3])], [("y", FLOAT, ["n", 2])], [weight])
