"""linear and embed on a CPU: against torch in double precision, row by row the same bits, refusals with numbers."""

import pytest
import torch
from aruntime_kernels import cpu
from aruntime_kernels.embed import embed, embed_reference
from aruntime_kernels.linear import linear, linear_reference, pack
from torch import Tensor

DTYPES = [torch.float32, torch.bfloat16]
SHAPES = [(1, 1), (33, 7), (64, 300), (100, 257), (31, 1000), (768, 96)]


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    out = torch.full((x.shape[0], weight.shape[0]), float("nan"))
    linear(x, pack(weight, bias), out)
    return out


def same_bits(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.contiguous().view(torch.int32), b.contiguous().view(torch.int32))


@pytest.mark.usefixtures("instruction_set", "threads")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
def test_linear_is_the_product_with_the_bias_added(outputs: int, inputs: int, dtype: torch.dtype) -> None:
    torch.manual_seed(outputs)
    for rows in (1, 2, 3, 5, 6, 7, 12, 13, 40):
        x, weight = torch.randn(rows, inputs), torch.randn(outputs, inputs).to(dtype)
        for bias in (None, torch.randn(outputs).to(dtype)):
            want = torch.empty(rows, outputs, dtype=torch.float64)
            linear_reference(x.double(), weight, bias, want)
            torch.testing.assert_close(product(x, weight, bias).double(), want, rtol=1e-5, atol=1e-5 * inputs**0.5)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_has_the_same_bits_alone_and_among_1_to_70_others(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(71, 523), torch.randn(77, 523).to(dtype)
    alone = torch.cat([product(x[i : i + 1], weight) for i in range(71)])
    for rows in range(2, 72):
        assert same_bits(product(x[:rows], weight), alone[:rows]), rows
        assert same_bits(product(x[-rows:], weight), alone[-rows:]), rows


def test_a_row_has_the_same_bits_on_any_number_of_threads() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(300, 600), torch.randn(900, 600)
    alone = product(x, weight)
    cpu.set_threads(3)
    try:
        assert same_bits(product(x, weight), alone)
    finally:
        cpu.set_threads(1)


def test_avx2_and_avx512_give_the_same_bits() -> None:
    x, weight = torch.randn(29, 300), torch.randn(65, 300).bfloat16()
    best = cpu.instruction_set()
    results = []
    try:
        for name in ("avx512", "avx2"):
            cpu.use_instruction_set(name)
            results.append(product(x, weight))
    except ValueError:
        pytest.skip("this processor has no AVX-512")
    finally:
        cpu.use_instruction_set(best)
    assert same_bits(*results)


@pytest.mark.usefixtures("instruction_set")
def test_rows_may_be_apart_and_nothing_between_them_is_touched() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(9, 50)[:, :47], torch.randn(90, 60)[:, :47]
    around = torch.full((9, 100), 7.0)
    linear(x, pack(weight), around[:, 5:95])
    torch.testing.assert_close(around[:, 5:95], x @ weight.t(), rtol=1e-4, atol=1e-4)
    assert (around[:, :5] == 7).all()
    assert (around[:, 95:] == 7).all()


def test_a_packed_weight_outlives_its_source_and_knows_its_size() -> None:
    weight = torch.randn(40, 33)
    packed = pack(weight, torch.zeros(40))
    want = torch.ones(1, 33) @ weight.t()
    weight.zero_()
    out = torch.empty(1, 40)
    linear(torch.ones(1, 33), packed, out)
    torch.testing.assert_close(out, want, rtol=1e-4, atol=1e-4)
    assert packed.shape == (40, 33)
    assert packed.nbytes >= 40 * 33 * 4


def test_no_rows_are_no_work() -> None:
    linear(torch.empty(0, 8), pack(torch.randn(4, 8)), torch.empty(0, 4))


def test_wrong_shapes_and_types_are_refused_by_name() -> None:
    packed = pack(torch.randn(4, 8))
    out = torch.empty(2, 4)
    for x, name in ((torch.empty(2, 7), "x"), (torch.empty(8), "x"), (torch.empty(2, 8, dtype=torch.float64), "x")):
        with pytest.raises(ValueError, match=rf"^{name}: want"):
            linear(x, packed, out)
    with pytest.raises(ValueError, match=r"^out: want \[2, 4\], got torch.float32 \[2, 5\]"):
        linear(torch.empty(2, 8), packed, torch.empty(2, 5))
    with pytest.raises(ValueError, match=r"^x: want a contiguous last dimension"):
        linear(torch.empty(8, 2).t(), packed, out)
    with pytest.raises(ValueError, match=r"^weight: want float32 or bfloat16, got torch.float16"):
        pack(torch.empty(4, 8, dtype=torch.float16))
    with pytest.raises(ValueError, match=r"^bias: want \[4\], got"):
        pack(torch.empty(4, 8), torch.empty(5))
    with pytest.raises(ValueError, match=r"^weight: want"):
        pack(torch.empty(0, 8))


@pytest.mark.usefixtures("instruction_set", "threads")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [1, 15, 63, 2000])
def test_embed_copies_rows(columns: int, dtype: torch.dtype) -> None:
    table = torch.randn(50, columns).to(dtype)
    token_ids = torch.tensor([49, 0, 7, 7, 3] * 20, dtype=torch.int32)
    out, want = torch.full((100, columns), float("nan")), torch.empty(100, columns)
    embed(token_ids, table, out)
    embed_reference(token_ids, table, want)
    assert torch.equal(out, want)


@pytest.mark.parametrize("hostile", [-1, 50, 2**31 - 1, -(2**31)])
def test_an_id_outside_the_table_is_refused_and_not_followed(hostile: int) -> None:
    token_ids = torch.tensor([0, hostile], dtype=torch.int32)
    with pytest.raises(ValueError, match=rf"^token_ids\[1\]: want 0 to 49, got {hostile}$"):
        embed(token_ids, torch.randn(50, 8), torch.empty(2, 8))
