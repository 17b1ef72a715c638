"""What a request's inputs must be to be those of a model."""

import pytest

from aruntime.wire.control import TensorSpec
from aruntime.wire.tensors import Tensor, check_inputs

SPECS = [TensorSpec(name="a", datatype="FP32", shape=[-1, 2]), TensorSpec(name="b", datatype="INT64", shape=[-1])]
A, B = Tensor("a", "FP32", (1, 2), bytes(8)), Tensor("b", "INT64", (5,), bytes(40))


def test_inputs_may_come_in_any_order_and_free_sizes_are_free() -> None:
    check_inputs([B, A], SPECS)


@pytest.mark.parametrize(
    ("tensors", "complaint"),
    [
        ([A], "b: this input is missing"),
        ([], "a: this input is missing"),
        ([A, B, Tensor("c", "FP32", (1,), bytes(4))], "c: this model has no such input"),
        ([A, B, A], "an input is there twice"),
        ([A, Tensor("b", "INT32", (5,), bytes(20))], "b: want INT64, got INT32"),
        ([Tensor("a", "FP32", (1, 3), bytes(12)), B], r"a: want shape \[-1, 2\], got \[1, 3\]"),
        ([Tensor("a", "FP32", (2,), bytes(8)), B], r"a: want shape \[-1, 2\], got \[2\]"),
    ],
)
def test_the_first_wrong_input_is_named(tensors: list[Tensor], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        check_inputs(tensors, SPECS)
