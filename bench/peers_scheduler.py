"""Our scheduler and prefix cache beside vLLM's scheduler and SGLang's radix cache, in one run on one core.

    python bench/peers_scheduler.py --peers PYTHON [--core 0] [--rounds 15]

PYTHON is an interpreter that can import vllm and sglang; a peer that it cannot import is left out, and the reason is
printed. Each contestant is a process of its own, pinned to the same core, and works only when asked: every round asks
them in turn for each case, so that all meet the same weather. A figure is the median over rounds of a round's median.

    decode N    a step of N decoding sequences: ours plan + commit through Cython, vLLM schedule + update_from_output
    cold T      a prompt of T random tokens arrives that is nowhere in the cache: taken in, hashed, looked up; ours also
                gets its blocks, enters them into the cache, and has its first step planned
    hit T       the same for a prompt that is there whole
    match T     the lookup alone of a prompt that is there whole: ours hash, lookup and share; SGLang one node of a tree
    insert T    its blocks are entered into the cache (vLLM does that inside schedule)

Ours goes through Cython; `match` and `insert` call the pool of csrc/cache through ctypes. vLLM: `Request` with its
block hasher, `add_request`, `get_computed_blocks`. SGLang: its Python `RadixCache` alone.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

BLOCK_TOKENS, BLOCKS, CONTEXT, VOCAB = 16, 200_000, 40_000, 128_256
PROMPTS = (2048, 32_768)
CASES = [
    *(f"decode {sequences}" for sequences in (16, 64, 256, 1024)),
    *(f"{what} {tokens}" for what in ("cold", "hit", "match", "insert") for tokens in PROMPTS),
]

# Makes a turn ready and returns what is timed, and what is done after it.
Turn = Callable[[], tuple[Callable[[], object], Callable[[], object]]]


def nothing() -> None:
    """What is done after a turn that leaves nothing."""


class Ours:
    """The scheduler behind Cython and the pool behind ctypes."""

    def __init__(self) -> None:
        import bench_cache
        import bench_scheduler
        import numpy as np

        self.np, self.scheduling = np, bench_scheduler
        with tempfile.TemporaryDirectory() as folder:
            self.cache = bench_cache.Cache(bench_cache.build(Path(folder)))
        self.random = np.random.default_rng(1)
        self.version = "this tree"

    def decode(self, sequences: int) -> Turn:
        scheduler = self.scheduling.decoding(sequences)
        tokens, logprobs = self.np.full(sequences, 7, self.np.int32), self.np.zeros(sequences, self.np.float32)

        def step() -> None:
            scheduler.plan(0.0)
            scheduler.commit(tokens, 0.0, logprobs)

        return lambda: (step, nothing)

    def fresh(self, tokens: int) -> Any:
        return self.random.integers(0, VOCAB, tokens, dtype=self.np.int32)

    def arrival(self, scheduler: Any, prompt_of: Callable[[], Any], found: int) -> Turn:
        def turn() -> tuple[Callable[[], object], Callable[[], object]]:
            prompt = prompt_of()

            plans: list[Any] = []

            def arrive() -> None:
                self.scheduling.submit(scheduler, prompt)
                plans.append(scheduler.plan(0.0))

            def leave() -> None:
                assert plans[0].positions[0] == found, f"{plans[0].positions[0]} tokens found, want {found}"
                scheduler.fail_step()
                scheduler.drop_front_end(1)

            return arrive, leave

        return turn

    def cold(self, tokens: int) -> Turn:
        return self.arrival(self.scheduling.make(), lambda: self.fresh(tokens), 0)

    def hit(self, tokens: int) -> Turn:
        scheduler, prompt = self.scheduling.make(), self.fresh(tokens)
        self.scheduling.answer(scheduler, prompt)
        # One block less than whole: its last token is always computed.
        return self.arrival(scheduler, lambda: prompt, tokens - BLOCK_TOKENS)

    def match(self, tokens: int) -> Turn:
        prompt = self.fresh(tokens)
        self.cache.keep(prompt)
        return lambda: (lambda: self.cache.hit(prompt), self.cache.give_back)

    def insert(self, tokens: int) -> Turn:
        def turn() -> tuple[Callable[[], object], Callable[[], object]]:
            prompt = self.fresh(tokens)
            self.cache.admit(prompt)
            return lambda: self.cache.insert(prompt), self.cache.give_back

        return turn


class Vllm:
    """vLLM's v1 scheduler with a full-attention cache of one layer; no model, no worker."""

    def __init__(self) -> None:
        import torch
        import vllm
        from vllm.config import CacheConfig, DeviceConfig, ModelConfig, SchedulerConfig, VllmConfig
        from vllm.sampling_params import SamplingParams
        from vllm.utils.hashing import get_hash_fn_by_name
        from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
        from vllm.v1.core.sched.scheduler import Scheduler
        from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
        from vllm.v1.outputs import ModelRunnerOutput
        from vllm.v1.request import Request, RequestStatus
        from vllm.v1.structured_output import StructuredOutputManager

        self.version = f"vLLM {vllm.__version__}, torch {torch.__version__}"
        self.request, self.aborted, self.output = Request, RequestStatus.FINISHED_ABORTED, ModelRunnerOutput
        llama = {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
            "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": VOCAB,
            "max_position_embeddings": CONTEXT,
        }  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(llama))
            model = ModelConfig(model=folder, skip_tokenizer_init=True, dtype="float32", max_model_len=CONTEXT)
        cache = CacheConfig(block_size=BLOCK_TOKENS, enable_prefix_caching=True)
        cache.num_gpu_blocks = BLOCKS
        config = VllmConfig(
            model_config=model,
            cache_config=cache,
            scheduler_config=SchedulerConfig(
                max_num_seqs=1024, max_num_batched_tokens=8192, max_model_len=CONTEXT, is_encoder_decoder=False
            ),
            device_config=DeviceConfig(device="cpu"),
        )
        hash_name = cache.prefix_caching_hash_algo
        self.version += f", block hash {hash_name}"
        hash_fn = get_hash_fn_by_name(hash_name)
        init_none_hash(hash_fn)
        self.hasher = get_request_block_hasher(BLOCK_TOKENS, hash_fn)
        spec = FullAttentionSpec(block_size=BLOCK_TOKENS, num_kv_heads=1, head_size=1, dtype=torch.float32)
        self.sampling = SamplingParams(max_tokens=CONTEXT - 512, ignore_eos=True)
        self.sampling_short = SamplingParams(max_tokens=512)
        self.make = lambda: Scheduler(
            vllm_config=config,
            kv_cache_config=KVCacheConfig(BLOCKS, [], [KVCacheGroupSpec(["layer"], spec)]),
            structured_output_manager=StructuredOutputManager(config),
            block_size=BLOCK_TOKENS,
        )
        import random

        self.random, self.ids = random.Random(1), iter(range(1 << 40))

    def add(self, scheduler: Any, prompt: list[int], sampling: Any) -> Any:
        request = self.request(str(next(self.ids)), prompt, sampling, None, block_hasher=self.hasher)
        scheduler.add_request(request)
        return request

    def step(self, scheduler: Any) -> None:
        plan = scheduler.schedule()
        names = list(plan.num_scheduled_tokens)
        requests = scheduler.requests
        sampled = [[7] if requests[n].num_computed_tokens >= requests[n].num_prompt_tokens else [] for n in names]
        scheduler.update_from_output(plan, self.output(names, {n: i for i, n in enumerate(names)}, sampled))

    def decode(self, sequences: int) -> Turn:
        scheduler = self.make()
        for _ in range(sequences):
            self.add(scheduler, [self.random.randrange(VOCAB)] * 512, self.sampling)
        while any(not request.output_token_ids for request in scheduler.requests.values()):
            self.step(scheduler)
        names = [request.request_id for request in scheduler.running]
        assert len(names) == sequences
        output = self.output(names, {n: i for i, n in enumerate(names)}, [[7]] * sequences)

        def step() -> None:
            scheduler.update_from_output(scheduler.schedule(), output)

        return lambda: (step, nothing)

    def fresh(self, tokens: int) -> list[int]:
        return self.random.choices(range(VOCAB), k=tokens)

    def arrival(self, scheduler: Any, prompt_of: Callable[[], list[int]], found: int) -> Turn:
        def turn() -> tuple[Callable[[], object], Callable[[], object]]:
            prompt = prompt_of()
            held: list[Any] = []

            def arrive() -> None:
                held.append(self.add(scheduler, prompt, self.sampling_short))
                held.append(scheduler.kv_cache_manager.get_computed_blocks(held[0])[1])

            def leave() -> None:
                scheduler.finish_requests([held[0].request_id], self.aborted)
                assert held[1] == found, f"{held[1]} tokens found, want {found}"

            return arrive, leave

        return turn

    def cold(self, tokens: int) -> Turn:
        return self.arrival(self.make(), lambda: self.fresh(tokens), 0)

    def hit(self, tokens: int) -> Turn:
        scheduler, prompt = self.make(), self.fresh(tokens)
        request = self.add(scheduler, prompt, self.sampling_short)
        while not request.output_token_ids:
            self.step(scheduler)
        scheduler.finish_requests([request.request_id], self.aborted)
        # One block less than whole: its last token is always computed.
        return self.arrival(scheduler, lambda: prompt, tokens - BLOCK_TOKENS)


class Sglang:
    """SGLang's radix tree in Python, with its default of one token a node boundary."""

    def __init__(self) -> None:
        import numpy as np
        import sglang
        import torch

        # What holds and counts tensors cannot be imported without a GPU's libraries; the tree alone never calls it.
        for name in ("mem_cache.memory_pool", "mem_cache.allocator", "observability.metrics_collector"):
            sys.modules[f"sglang.srt.{name}"] = MagicMock()
        from sglang.srt.mem_cache.base_prefix_cache import InsertParams, MatchPrefixParams
        from sglang.srt.mem_cache.radix_cache import RadixCache, RadixKey

        self.version = f"SGLang {sglang.__version__}"
        self.make, self.key = RadixCache.create_simulated, RadixKey
        self.match_of, self.insert_of = MatchPrefixParams, InsertParams
        self.random, self.torch, self.int64 = np.random.default_rng(1), torch, np.int64

    def fresh(self, tokens: int) -> Any:
        return array("q", self.random.integers(0, VOCAB, tokens, dtype=self.int64).tobytes())

    def put(self, tree: Any, prompt: Any) -> Callable[[], object]:
        value = self.torch.arange(len(prompt), dtype=self.torch.int64)
        return lambda: tree.insert(self.insert_of(key=self.key(prompt), value=value))

    def match(self, tokens: int) -> Turn:
        tree, prompt = self.make(), self.fresh(tokens)
        self.put(tree, prompt)()
        assert tree.match_prefix(self.match_of(key=self.key(prompt))).device_prefix_len == tokens
        again = array("q", prompt)
        return lambda: (lambda: tree.match_prefix(self.match_of(key=self.key(again))), nothing)

    def insert(self, tokens: int) -> Turn:
        tree = self.make()
        return lambda: (self.put(tree, self.fresh(tokens)), tree.reset)


CONTESTANTS = {"ours": Ours, "vllm": Vllm, "sglang": Sglang}


def serve(name: str) -> None:
    """Answer each case on standard input with the median seconds of some turns, or null if there is no such case."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    try:
        contestant: Any = CONTESTANTS[name]()
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), file=out)
        return
    print(json.dumps({"version": contestant.version}), file=out)
    turns: dict[str, Turn] = {}
    for line in sys.stdin:
        case = line.strip()
        what, _, size = case.partition(" ")
        if not hasattr(contestant, what):
            print("null", file=out)
            continue
        if case not in turns:
            turns[case] = getattr(contestant, what)(int(size))
            timed(turns[case], 3)
        print(timed(turns[case], 11), file=out)


def timed(turn: Turn, count: int) -> float:
    """Median seconds of `count` turns."""
    seconds = []
    for _ in range(count):
        work, after = turn()
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
        after()
    return statistics.median(seconds)


class Contestant:
    """The other end of `serve`: a process pinned to a core."""

    def __init__(self, name: str, python: str, core: int) -> None:
        command = [python, __file__, "--serve", name]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )  # fmt: skip
        assert self.process.stdin
        assert self.process.stdout
        self.asks, self.answers = self.process.stdin, self.process.stdout
        line = self.answers.readline()
        self.about: dict[str, str] = json.loads(line) if line else {"missing": "it died on its way up"}

    def ask(self, case: str) -> float | None:
        print(case, file=self.asks, flush=True)
        seconds: float | None = json.loads(self.answers.readline())
        return seconds

    def close(self) -> None:
        self.asks.close()
        self.process.wait()


def table(found: dict[str, dict[str, list[float]]]) -> str:
    """The medians in microseconds, one row a case, and how many times ours goes into a peer's."""
    names = list(found)
    peers = [name for name in names if name != "ours"]
    lines = ["| case | " + " | ".join([f"{n}, us" for n in names] + [f"{n} / ours" for n in peers]) + " |"]
    lines.append("| --- |" + " --- |" * (len(names) + len(peers)))
    for case in CASES:
        medians = {name: statistics.median(found[name][case]) for name in names if found[name].get(case)}
        cells = [f"{medians[name] * 1e6:,.1f}" if name in medians else "" for name in names]
        cells += [f"{medians[name] / medians['ours']:,.1f}" if name in medians else "" for name in peers]
        lines.append(f"| {case} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--serve", choices=list(CONTESTANTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve)
    contestants = {}
    for name in CONTESTANTS:
        contestant = Contestant(name, sys.executable if name == "ours" else options.peers, options.core)
        print(f"{name}: {contestant.about}", file=sys.stderr)
        if "version" in contestant.about:
            contestants[name] = contestant
    found: dict[str, dict[str, list[float]]] = {name: {} for name in contestants}
    loads = [os.getloadavg()[0]]
    for turn in range(options.rounds):
        for case in CASES:
            for name, contestant in contestants.items():
                seconds = contestant.ask(case)
                if seconds is not None:
                    found[name].setdefault(case, []).append(seconds)
        loads.append(os.getloadavg()[0])
        print(f"round {turn + 1} of {options.rounds}, load {loads[-1]:.2f}", file=sys.stderr)
    for contestant in contestants.values():
        contestant.close()
    print(f"Python {platform.python_version()}, core {options.core}, {options.rounds} rounds of 11 turns, ", end="")
    print(f"load {min(loads):.2f} to {max(loads):.2f} (1.0 is this run)\n")
    print(table(found))


if __name__ == "__main__":
    main()
