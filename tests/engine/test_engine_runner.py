"""The runner over a real decoder: what a step ahead changes, which is nothing but the waiting."""

from array import array
from pathlib import Path

import pytest
import torch
import transformers

from aruntime.engine.runner import Runner
from aruntime.model.decoder import load_decoder
from aruntime.model.kv_cache import KvCache
from aruntime.scheduler.scheduler import Scheduler

VOCAB, BLOCK_TOKENS, SEQUENCES, TOKENS = 97, 8, 4, 32


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runner")
    config = transformers.LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    torch.manual_seed(1)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def answers(checkpoint: Path, steps_ahead: int, blocks: int, prompts: list[list[int]]) -> dict[int, list[int]]:
    """What six requests are told, when so many steps are launched before the first is fetched."""
    decoder = load_decoder(checkpoint, device="cpu", tokens_max=TOKENS, sequences_max=SEQUENCES)
    runner = Runner(decoder, KvCache(decoder.config, blocks, BLOCK_TOKENS, torch.float32), SEQUENCES)
    scheduler = Scheduler(
        sequences_max=SEQUENCES,
        step_tokens_max=TOKENS,
        waiting_max=16,
        context_max=120,
        block_tokens=BLOCK_TOKENS,
        blocks=blocks,
        vocab=VOCAB,
        eos_token_ids=[2],
    )
    for slot, prompt in enumerate(prompts):
        penalty = 0.5 if slot == 1 else 0.0
        scheduler.submit(
            front_end=1, slot=slot, generation=0, prompt=array("i", prompt), max_tokens=40, seed=slot,
            presence_penalty=penalty, temperature=1.0, ignore_eos=slot % 2 == 0,
        )  # fmt: skip
    told: dict[int, list[int]] = {slot: [] for slot in range(len(prompts))}
    under_way = []
    for _ in range(2000):
        plan = scheduler.plan(0.0)
        if plan.tokens:
            under_way.append(runner.launch(plan))
        elif not under_way:
            break
        while len(under_way) > (steps_ahead if plan.tokens else 0):
            tokens, logprobs = under_way.pop(0).fetch()
            scheduler.commit(tokens, 0.0, logprobs)
        for slot, _, token, *_ in scheduler.take_outputs(1):
            told[slot] += [token] if token >= 0 else []
    scheduler.check_integrity()
    assert scheduler.stats().running == scheduler.stats().waiting == 0
    return told


def test_a_step_ahead_and_too_few_blocks_change_no_token(checkpoint: Path) -> None:
    shared = list(range(3, 30))
    prompts = [[*shared[: 5 * slot + 1], 40 + slot] for slot in range(6)]
    undisturbed = answers(checkpoint, 0, 64, prompts)
    assert all(len(tokens) > 0 for tokens in undisturbed.values())
    assert answers(checkpoint, 1, 64, prompts) == undisturbed
    assert answers(checkpoint, 0, 15, prompts) == undisturbed
    assert answers(checkpoint, 1, 15, prompts) == undisturbed
