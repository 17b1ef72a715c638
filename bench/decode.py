"""Decode and prefill of one checkpoint beside transformers, in one run, turn about.

    python bench/make_checkpoint.py llama-125m /tmp/llama-125m
    python bench/decode.py /tmp/llama-125m --sequences 1 8 32

Ours is the real step (scheduler, decoder, sampler) without rings and HTTP; theirs is `generate` with a cache, greedy,
on the same threads and the same prompts. Medians over `--repeats` turns, in tokens a second.
"""

import argparse
import os
import statistics
import time
from array import array
from pathlib import Path

import torch
from aruntime_kernels import cpu
from transformers import AutoModelForCausalLM

from aruntime.engine.runner import Runner
from aruntime.model.decoder import load_decoder
from aruntime.model.kv_cache import KvCache
from aruntime.scheduler.scheduler import Scheduler

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Ours:
    """The engine's step over one checkpoint."""

    def __init__(self, folder: Path, dtype: torch.dtype, sequences: int, context: int) -> None:
        decoder = load_decoder(folder, weight_dtype=dtype, tokens_max=512, sequences_max=sequences)
        blocks = sequences * (-(-context // 16) + 1)
        self.vocab = decoder.config.vocab
        self.runner = Runner(decoder, KvCache(decoder.config, blocks, 16, torch.bfloat16), sequences)
        self.scheduler = Scheduler(
            sequences_max=sequences, step_tokens_max=512, waiting_max=sequences, context_max=context,
            block_tokens=16, blocks=blocks, vocab=self.vocab, eos_token_ids=[],
        )  # fmt: skip

    def generate(self, prompts: list[list[int]], tokens: int) -> tuple[float, float]:
        """Seconds until every prompt has its first token, and from then to the last token."""
        for slot, prompt in enumerate(prompts):
            self.scheduler.submit(
                front_end=1, slot=slot, generation=1, prompt=array("i", prompt), max_tokens=tokens, temperature=0
            )
        started = time.perf_counter()
        first = None
        while (plan := self.scheduler.plan(0.0)).tokens:
            if first is None and plan.decodes == len(prompts):
                first = time.perf_counter()
            self.scheduler.commit(self.runner.launch(plan).fetch()[0], 0.0)
        ended = time.perf_counter()
        self.scheduler.take_outputs(1, len(prompts) * tokens)
        self.scheduler.drop_front_end(1)
        assert first is not None
        return first - started, ended - first


class Theirs:
    """transformers' generate."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()

    @torch.inference_mode()
    def generate(self, prompts: list[list[int]], tokens: int) -> tuple[float, float]:
        """As `Ours.generate`: the prefill alone, and the rest."""
        ids = torch.tensor(prompts)
        options = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        mask = torch.ones_like(ids)
        started = time.perf_counter()
        self.model.generate(ids, attention_mask=mask, max_new_tokens=1, **options)
        first = time.perf_counter()
        self.model.generate(ids, attention_mask=mask, max_new_tokens=tokens, **options)
        return first - started, time.perf_counter() - first - (first - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sequences", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", choices=_DTYPES, default="float32")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    cpu.set_threads(options.threads)
    torch.set_num_threads(options.threads)
    dtype = _DTYPES[options.dtype]
    theirs = Theirs(options.folder, dtype)
    print(f"{options.folder.name}, {options.dtype}, {options.threads} threads, {cpu.instruction_set()}, tokens/s")
    print("sequences   prefill ours  theirs  ratio   decode ours  theirs  ratio")
    for count in options.sequences:
        ours = Ours(options.folder, dtype, count, options.prompt + options.tokens + 1)
        prompts = torch.randint(0, ours.vocab, (count, options.prompt)).tolist()
        turns = [
            (ours.generate(prompts, options.tokens), theirs.generate(prompts, options.tokens))
            for _ in range(options.repeats + 1)
        ]
        rates = []
        for stage, tokens in ((0, options.prompt * count), (1, (options.tokens - 1) * count)):
            rates += [tokens / statistics.median(turn[who][stage] for turn in turns[1:]) for who in (0, 1)]
        print(
            f"{count:9}   {rates[0]:12.1f} {rates[1]:7.1f} {rates[0] / rates[1]:6.2f}"
            f"   {rates[2]:11.1f} {rates[3]:7.1f} {rates[2] / rates[3]:6.2f}"
        )


if __name__ == "__main__":
    main()
