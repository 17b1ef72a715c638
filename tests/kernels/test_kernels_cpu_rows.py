"""rms_norm, rotary and silu_mul on a CPU against their references, on odd sizes and strides."""

import pytest
import torch
from aruntime_kernels.rms_norm import rms_norm, rms_norm_reference
from aruntime_kernels.rotary import rotary, rotary_reference
from aruntime_kernels.silu_mul import silu_mul, silu_mul_reference

SIZES = [1, 7, 16, 63, 100, 768, 2000]
pytestmark = pytest.mark.usefixtures("instruction_set")


@pytest.mark.parametrize("size", SIZES)
def test_rms_norm_adds_the_residual_first_and_norms_the_sum(size: int) -> None:
    torch.manual_seed(size)
    x, weight, residual = torch.randn(33, size + 3)[:, :size], torch.randn(size), torch.randn(33, size)
    out, want, added = torch.empty(33, size), torch.empty(33, size), residual.clone()
    rms_norm(x, weight, out, eps=1e-5, residual=residual)
    rms_norm_reference(x, weight, want, eps=1e-5, residual=added)
    torch.testing.assert_close(out, want, rtol=2e-6, atol=1e-6)
    assert torch.equal(residual, added)


def test_rms_norm_takes_heads_in_place() -> None:
    torch.manual_seed(0)
    fused, weight = torch.randn(9, 5, 24), torch.randn(24)
    query, rest, want = fused[:, :3], fused[:, 3:].clone(), torch.empty(9, 3, 24)
    rms_norm_reference(query, weight, want, eps=1e-6)
    rms_norm(query, weight, query, eps=1e-6)
    torch.testing.assert_close(query, want, rtol=2e-6, atol=1e-6)
    assert torch.equal(fused[:, 3:], rest)


def test_a_row_of_rms_norm_has_the_same_bits_alone() -> None:
    x, weight = torch.randn(50, 100), torch.randn(100)
    out, alone = torch.empty(50, 100), torch.empty(1, 100)
    rms_norm(x, weight, out, eps=1e-5)
    for i in range(50):
        rms_norm(x[i : i + 1], weight, alone, eps=1e-5)
        assert torch.equal(alone[0], out[i])


@pytest.mark.parametrize("size", [2, 10, 64, 126])
def test_rotary_turns_queries_and_keys_in_place(size: int) -> None:
    torch.manual_seed(size)
    fused, cos_sin = torch.randn(21, 8, size), torch.randn(40, size)
    positions = torch.randint(0, 40, (21,), dtype=torch.int32)
    want = fused.clone()
    rotary(fused[:, :5], fused[:, 5:7], positions, cos_sin)
    rotary_reference(want[:, :5], want[:, 5:7], positions, cos_sin)
    torch.testing.assert_close(fused, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("position", [-1, 40])
def test_a_position_outside_the_table_is_refused(position: int) -> None:
    query, positions = torch.ones(1, 2, 8), torch.tensor([position], dtype=torch.int32)
    with pytest.raises(ValueError, match=rf"^positions\[0\]: want 0 to 39, got {position}$"):
        rotary(query, query, positions, torch.zeros(40, 8))
    assert (query == 1).all()


@pytest.mark.parametrize("size", SIZES)
def test_silu_mul_is_the_reference_far_out_too(size: int) -> None:
    torch.manual_seed(size)
    gate_up = torch.randn(9, 2 * size) * 30
    gate_up[0, :size] = torch.tensor([1e4, -1e4, 88.5, -88.5, 0.0, -0.0, float("inf")]).repeat(size)[:size]
    out, want = torch.empty(9, size), torch.empty(9, size)
    silu_mul(gate_up, out)
    silu_mul_reference(gate_up, want)
    torch.testing.assert_close(out, want, rtol=2e-6, atol=1e-30)


def test_a_nan_stays_a_nan() -> None:
    out = torch.empty(1, 4)
    silu_mul(torch.tensor([[1.0, float("nan"), 2.0, 3.0, 1.0, 1.0, float("nan"), 1.0]]), out)
    assert out.isnan().tolist() == [[False, True, True, False]]


def test_wrong_shapes_are_refused_by_name() -> None:
    x = torch.empty(3, 8)
    with pytest.raises(ValueError, match=r"^weight: want \[8\], got torch.float32 \[9\]"):
        rms_norm(x, torch.empty(9), x, eps=1e-5)
    with pytest.raises(ValueError, match=r"^residual: want"):
        rms_norm(x, torch.empty(8), x, eps=1e-5, residual=torch.empty(2, 8))
    with pytest.raises(ValueError, match=r"^out: want \[3, 8 / 2\], got torch.float32 \[3, 5\]"):
        silu_mul(x, torch.empty(3, 5))
    with pytest.raises(ValueError, match=r"^query: want an even head size"):
        rotary(torch.empty(1, 1, 7), torch.empty(1, 1, 7), torch.zeros(1, dtype=torch.int32), torch.empty(4, 7))
