"""mask: the Triton kernel and the C++ beside their reference, and what both refuse."""

import pytest
import torch
from aruntime_kernels import cpu
from aruntime_kernels.mask import mask_reference, mask_triton
from kernels_house import DEVICE, close, ints, normal

OPERATIONS = [pytest.param(mask_triton, id="triton"), pytest.param(cpu.mask, id="cpu")]


def words(rows: int, vocab: int) -> torch.Tensor:
    return torch.randint(-(2**31), 2**31, (rows, -(-vocab // 32)), dtype=torch.int64).int().to(DEVICE)


def on_its_device(operation: object, *tensors: torch.Tensor) -> list[torch.Tensor]:
    return [tensor.cpu() if operation is cpu.mask else tensor for tensor in tensors]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("vocab", [1, 31, 32, 63, 100, 2050])
def test_mask_is_its_reference(operation: object, vocab: int) -> None:
    torch.manual_seed(vocab)
    logits, row, bits = on_its_device(operation, normal(5, vocab + 3)[:, :vocab], ints(0, 4, 2), words(3, vocab))
    bits[0], bits[2] = -1, 0
    got, want = logits.clone(), logits.clone()
    operation(got, row, bits)  # type: ignore[operator]
    mask_reference(want, row, bits)
    close(got, want)
    assert torch.equal(got[0], logits[0])
    assert torch.equal(got[1], logits[1])
    assert got[2].isneginf().all()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_mask_of_another_size_or_kind_is_refused(operation: object) -> None:
    logits, row = on_its_device(operation, normal(2, 40), ints(0))
    for bits in (torch.zeros(1, 1, dtype=torch.int32), torch.zeros(2, 2, dtype=torch.int32), torch.zeros(1, 2)):
        with pytest.raises(ValueError, match=r"^words: want"):
            operation(logits, row, bits.to(logits.device))  # type: ignore[operator]


def test_a_row_outside_the_logits_is_refused_or_not_followed() -> None:
    logits = torch.zeros(2, 40)
    with pytest.raises(ValueError, match=r"^row\[0\]: want 0 to 1, got 2"):
        cpu.mask(logits, torch.tensor([2], dtype=torch.int32), torch.zeros(1, 2, dtype=torch.int32))
    on_device = logits.to(DEVICE)
    mask_triton(on_device, ints(2, -1), torch.zeros(2, 2, dtype=torch.int32, device=DEVICE))
    assert (on_device == 0).all()
