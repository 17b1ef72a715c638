"""A decoder computes what transformers computes, whichever way the tokens come in."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from aruntime_kernels import cpu
from model_parity import CASES, CHUNKS, Case, Driver, Reference, random_text, relative_error, ways

from aruntime.model.decoder import Batch
from aruntime.model.kv_cache import KvCache

CASE_OF = {case.name: case for case in CASES}


@pytest.fixture(scope="module", autouse=True)
def _threads() -> Iterator[None]:
    """Two threads for ours; one for transformers, whose many small operations would wait on a second one."""
    before = cpu.threads(), torch.get_num_threads()
    cpu.set_threads(2)
    torch.set_num_threads(1)
    yield
    cpu.set_threads(before[0])
    torch.set_num_threads(before[1])


@pytest.fixture(scope="module")
def window_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(CASE_OF["qwen3, head 24, biases, window 21"], tmp_path_factory.mktemp("window"))


def saved(case: Case, folder: Path) -> Path:
    case.save(folder)
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_logits_and_64_greedy_tokens_are_those_of_transformers(case: Case, tmp_path: Path) -> None:
    reference = Reference(saved(case, tmp_path))
    for way, error, same_tokens in ways(tmp_path, reference):
        print(f"{case.name:40} {way:16} {error:.1e} {same_tokens}")
        assert error < 1e-4, way
        assert same_tokens, way


def test_a_sharded_case_has_shards(tmp_path: Path) -> None:
    for case in CASES:
        if "sharded" in case.name:
            case.save(tmp_path / case.name)
            assert len(list((tmp_path / case.name).glob("*.safetensors"))) > 2


def test_a_rows_bits_are_the_same_in_prefill_in_chunks_in_decode_and_among_others(window_folder: Path) -> None:
    texts = [random_text(100), random_text(37, 1), random_text(64, 2)]
    whole = Driver(window_folder).prefill(texts[0])
    assert torch.equal(Driver(window_folder).prefill(texts[0], CHUNKS), whole)
    assert torch.equal(Driver(window_folder).prefill(texts[0], (1,)), whole)
    assert torch.equal(Driver(window_folder).crowd(texts)[0], whole)


def test_a_window_shorter_than_the_text_changes_its_end_and_not_its_beginning(tmp_path: Path) -> None:
    narrow, wide = (Case("window", "Mistral", {"sliding_window": window}) for window in (9, None))
    text = random_text(40)
    found = Driver(saved(narrow, tmp_path / "narrow")).prefill(text)
    full = Driver(saved(wide, tmp_path / "wide")).prefill(text)
    assert torch.equal(found[:9], full[:9])
    assert relative_error(found[9:], full[9:]) > 1e-2


def test_weights_forced_to_bf16_give_the_logits_of_a_model_rounded_to_bf16(tmp_path: Path) -> None:
    reference = Reference(saved(CASE_OF["llama, gqa"], tmp_path))
    for parameter in reference.model.parameters():
        if parameter.dim() == 2:
            parameter.data = parameter.data.bfloat16().float()
    text = random_text(50)
    want = reference.logits_of(text)
    driver = Driver(tmp_path, weight_dtype=torch.bfloat16)
    assert driver.decoder.dtype == torch.bfloat16
    assert relative_error(driver.prefill(text), want) < 1e-4
    exact = Driver(tmp_path).prefill(text)
    assert relative_error(exact, want) > 1e-4


def test_a_bf16_cache_costs_little_accuracy(window_folder: Path) -> None:
    text = random_text(90)
    exact = Driver(window_folder).prefill(text)
    rounded = Driver(window_folder, cache_dtype=torch.bfloat16).prefill(text)
    assert 0 < relative_error(rounded, exact) < 0.03


def test_only_the_sampled_rows_have_logits(window_folder: Path) -> None:
    text = random_text(20)
    driver = Driver(window_folder)
    want = driver.prefill(text)
    cache = KvCache(driver.decoder.config, 2, 16, torch.float32)
    ints = lambda *values: torch.tensor(values, dtype=torch.int32)  # noqa: E731
    for sampled in ((), (19,), (3, 19)):
        batch = Batch(
            token_ids=ints(*text),
            positions=ints(*range(20)),
            slot_mapping=ints(*range(20)),
            query_start=ints(0, 20),
            context_len=ints(20),
            block_tables=ints(0, 1).view(1, 2),
            sample_index=ints(*sampled),
            decodes=0,
        )
        assert torch.equal(driver.decoder.forward(batch, cache), want[list(sampled)])


def test_a_step_that_is_too_large_for_the_workspaces_is_an_error(window_folder: Path) -> None:
    driver = Driver(window_folder)
    sequence = driver.sequence(random_text(150), 150)
    with pytest.raises(ValueError, match="150 tokens in a step; there is room for 128"):
        driver.step((sequence, 150))
    few = Driver(window_folder, sequences_max=4)
    with pytest.raises(ValueError, match="5 sampled rows; there is room for 4"):
        few.step((few.sequence(random_text(5), 5), 5))


def test_progress_counts_layers_and_the_bytes_are_those_of_the_weights(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    case = Case("bytes", "Llama", {"vocab_size": 320, "intermediate_size": 192})
    decoder = Driver(saved(case, tmp_path), progress=lambda done, total: told.append((done, total))).decoder
    assert told == [(1, 3), (2, 3), (3, 3)]
    norms = 96 * (2 * decoder.config.layers + 1)
    assert 0 <= decoder.weight_bytes - 4 * (decoder.config.parameters + norms) < 0.2 * decoder.weight_bytes
