"""Random checkpoints as transformers writes them, and a driver that feeds a Decoder by hand-made block tables.

Used by the tests beside it and by bench/parity.py.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from aruntime.model.decoder import Batch, Decoder, load_decoder
from aruntime.model.kv_cache import KvCache

VOCAB = 311
BLOCK_TOKENS = 16
BLOCKS = 48
TOKENS_MAX = 128
NEW_TOKENS = 64
PROMPT_TOKENS = 45
CHUNKS = (7, 1, 13, 29, 5, 31)

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


@dataclass(frozen=True)
class Case:
    """One random checkpoint: a family, what differs from the base shape, and how it is stored."""

    name: str
    family: str
    changes: dict[str, Any]
    dtype: torch.dtype = torch.float32
    shard_bytes: int = 1 << 30

    def save(self, folder: Path) -> None:
        """Write the checkpoint. Every parameter is random: transformers begins with biases of 0 and norms of 1."""
        base = {
            "vocab_size": VOCAB,
            "hidden_size": 96,
            "intermediate_size": 160,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
            "tie_word_embeddings": False,
        }
        config = getattr(transformers, f"{self.family}Config")(**base | self.changes)
        model = getattr(transformers, f"{self.family}ForCausalLM")(config)
        generator = torch.Generator().manual_seed(len(self.name))
        for name, parameter in model.named_parameters():
            centre = 1.0 if "norm" in name else 0.0
            parameter.data.normal_(centre, 0.2, generator=generator)
        model.to(self.dtype).save_pretrained(folder, max_shard_size=self.shard_bytes)


_LLAMA3 = {
    "rope_theta": 500000.0,
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_LINEAR = {"rope_theta": 10000.0, "rope_type": "linear", "factor": 4.0}
_SLIDING = {"use_sliding_window": True, "sliding_window": 21, "max_window_layers": 1}

CASES = [
    Case("llama, gqa", "Llama", {}),
    Case("llama, mqa, tied", "Llama", {"num_key_value_heads": 1, "tie_word_embeddings": True}),
    Case(
        "llama, mha, head 40, biases",
        "Llama",
        {"num_key_value_heads": 6, "head_dim": 40, "attention_bias": True, "mlp_bias": True},
    ),
    Case("llama 3 scaling, bf16", "Llama", {"rope_parameters": _LLAMA3}, torch.bfloat16),
    Case("llama linear scaling, fp16, sharded", "Llama", {"rope_parameters": _LINEAR}, torch.float16, 60_000),
    Case("mistral, window 9", "Mistral", {"sliding_window": 9}),
    Case("mistral, no window, head 64, bf16", "Mistral", {"sliding_window": None, "head_dim": 64}, torch.bfloat16),
    Case("qwen2, tied", "Qwen2", {"tie_word_embeddings": True}),
    Case("qwen2, window 21 above layer 0, sharded", "Qwen2", _SLIDING, torch.float32, 100_000),
    Case("qwen3, head 128, tied, bf16", "Qwen3", {"tie_word_embeddings": True}, torch.bfloat16),
    Case("qwen3, head 24, biases, window 21", "Qwen3", {"head_dim": 24, "attention_bias": True, **_SLIDING}),
]


class Reference:
    """What transformers says of a checkpoint: one prompt continued greedily, two texts beside it, the logits of all."""

    def __init__(self, folder: Path) -> None:
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        self.texts = [self._continued(random_text(PROMPT_TOKENS)), random_text(50, 1), random_text(34, 2)]
        self.logits = [self.logits_of(text) for text in self.texts]

    @torch.inference_mode()
    def logits_of(self, text: list[int]) -> Tensor:
        logits: Tensor = self.model(torch.tensor([text])).logits[0]
        return logits

    def _continued(self, prompt: list[int]) -> list[int]:
        ids = torch.tensor([prompt])
        self.model.generation_config.eos_token_id = None
        options = {"do_sample": False, "max_new_tokens": NEW_TOKENS, "pad_token_id": 0}
        text = self.model.generate(ids, attention_mask=torch.ones_like(ids), **options)
        return list(text[0].tolist())


def random_text(length: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randint(VOCAB, (length,), generator=generator).tolist())


class Sequence:
    """A sequence under way: its tokens, its scattered blocks, and how many tokens are in the cache."""

    def __init__(self, tokens: list[int], blocks: list[int]) -> None:
        self.tokens = tokens
        self.blocks = blocks
        self.cached = 0

    def slots(self, count: int) -> list[int]:
        places = range(self.cached, self.cached + count)
        return [self.blocks[place // BLOCK_TOKENS] * BLOCK_TOKENS + place % BLOCK_TOKENS for place in places]


class Driver:
    """Runs chosen chunks of chosen sequences in one step, as a scheduler would ask for them."""

    def __init__(self, folder: Path, cache_dtype: torch.dtype = torch.float32, **options: Any) -> None:
        self.decoder: Decoder = load_decoder(folder, tokens_max=TOKENS_MAX, **options)
        device = self.decoder.device
        self._cache = KvCache(self.decoder.config, BLOCKS, BLOCK_TOKENS, cache_dtype, device)
        self._free = random.Random(7).sample(range(BLOCKS), BLOCKS)

    def sequence(self, tokens: list[int], room: int) -> Sequence:
        """A new sequence with blocks for `room` tokens, in no order."""
        return Sequence(list(tokens), [self._free.pop() for _ in range(-(-room // BLOCK_TOKENS))])

    @torch.inference_mode()
    def step(self, *parts: tuple[Sequence, int]) -> list[Tensor]:
        """Take in the next `count` tokens of each sequence, single ones first. Returns their logits: [count, vocab]."""
        counts = [count for _, count in parts]
        width = max(len(sequence.blocks) for sequence, _ in parts)
        starts = [sum(counts[:index]) for index in range(len(counts) + 1)]
        batch = Batch(
            token_ids=self._ints(t for s, n in parts for t in s.tokens[s.cached : s.cached + n]),
            positions=self._ints(p for s, n in parts for p in range(s.cached, s.cached + n)),
            slot_mapping=self._ints(slot for s, n in parts for slot in s.slots(n)),
            query_start=self._ints(starts),
            context_len=self._ints(s.cached + n for s, n in parts),
            block_tables=torch.stack([self._ints(s.blocks + [0] * (width - len(s.blocks))) for s, _ in parts]),
            sample_index=self._ints(range(starts[-1])),
            decodes=counts.count(1),
        )
        for sequence, count in parts:
            sequence.cached += count
        logits = self.decoder.forward(batch, self._cache).clone()
        return list(logits.split(counts))

    def prefill(self, tokens: list[int], chunks: tuple[int, ...] = (TOKENS_MAX,)) -> Tensor:
        """The logits of a text taken in by chunks of these sizes (the last one repeats)."""
        sequence = self.sequence(tokens, len(tokens))
        sizes = iter(chunks)
        size, logits = 0, []
        while sequence.cached < len(tokens):
            size = next(sizes, size)
            logits += self.step((sequence, min(size, len(tokens) - sequence.cached)))
        return torch.cat(logits)

    def greedy(self, prompt: list[int], count: int) -> tuple[list[int], Tensor]:
        """`count` greedy tokens after `prompt`, and the logits of every token taken in."""
        sequence = self.sequence(prompt, len(prompt) + count)
        logits = self.step((sequence, len(prompt)))
        while len(sequence.tokens) < len(prompt) + count:
            sequence.tokens.append(int(logits[-1][-1].argmax()))
            logits += self.step((sequence, 1))
        return sequence.tokens, torch.cat(logits)

    def crowd(self, texts: list[list[int]]) -> list[Tensor]:
        """The logits of several texts side by side: each begins a step after the last, in odd chunks."""
        sequences = [self.sequence(text, len(text)) for text in texts]
        chunks = [iter(CHUNKS[index : index + 2]) for index in range(len(texts))]  # then one token a step
        logits: list[list[Tensor]] = [[] for _ in texts]
        turn = 0
        while any(s.cached < len(s.tokens) for s in sequences):
            here = [i for i, s in enumerate(sequences) if i <= turn and s.cached < len(s.tokens)]
            wanted = {i: min(next(chunks[i], 1), len(texts[i]) - sequences[i].cached) for i in here}
            order = sorted(here, key=lambda i: wanted[i] != 1)
            for i, part in zip(order, self.step(*((sequences[i], wanted[i]) for i in order)), strict=True):
                logits[i].append(part)
            turn += 1
        return [torch.cat(parts) for parts in logits]

    def _ints(self, values: Any) -> Tensor:
        return torch.tensor(list(values), dtype=torch.int32, device=self.decoder.device)


def relative_error(found: Tensor, want: Tensor) -> float:
    """The largest difference, as a part of the largest wanted value."""
    return float((found.cpu() - want).abs().max() / want.abs().max())


def ways(folder: Path, reference: Reference, **options: Any) -> Iterator[tuple[str, float, bool]]:
    """Each way through a decoder: its name, the largest relative error of its logits, whether greedy tokens agree."""
    text, want = reference.texts[0], reference.logits[0]
    for name, chunks in (("prefill", (TOKENS_MAX,)), ("chunked prefill", CHUNKS)):
        found = Driver(folder, **options).prefill(text, chunks)
        yield name, relative_error(found, want), same_choices(found, want)
    tokens, found = Driver(folder, **options).greedy(text[:PROMPT_TOKENS], NEW_TOKENS)
    yield "decode", relative_error(found, want), tokens == text
    crowd = list(zip(Driver(folder, **options).crowd(reference.texts), reference.logits, strict=True))
    yield "among others", max(relative_error(*pair) for pair in crowd), all(same_choices(*pair) for pair in crowd)


def same_choices(found: Tensor, want: Tensor) -> bool:
    """Whether the greedy token is the same after every token."""
    return torch.equal(found.cpu().argmax(1), want.argmax(1))
