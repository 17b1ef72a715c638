"""The load generators and the evaluation harness, as a user would call them: no option that is there for this server.

Each is asked for little, so that a run takes seconds: what is to be seen is that they understand the server, not how
fast it is.
"""

from collections.abc import Iterator
from pathlib import Path

from installed import HERE, Packages, environment
from ran import Ran, run

VLLM = Packages(
    "vllm",
    ("-r", "vllm.txt"),
    (
        "vllm==0.33.0",
        "apache-tvm-ffi==0.1.11",
        "compressed-tensors==0.17.0",
        "depyf==0.20.0",
        "loguru==0.7.3",
        "mistral_common==1.11.6",
        "pydantic-extra-types==2.11.0",
        "xgrammar==0.2.8",
    ),
)
AIPERF = Packages("aiperf", ("aiperf==0.13.0",))
LM_EVAL = Packages("lm_eval", ("lm-eval[api]==0.4.13", "transformers>=4.55,<6"))

KEY = {"OPENAI_API_KEY": "none"}
OFFLINE = KEY | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
REQUESTS, CONCURRENCY, INPUT_TOKENS, OUTPUT_TOKENS = 20, 4, 64, 16
VLLM_ENDPOINTS = {
    "openai": ("/v1/completions", "--ignore-eos"),
    "vllm": ("/v1/completions", "--ignore-eos"),
    "openai-chat": ("/v1/chat/completions", "--ignore-eos"),
    "openai-responses": ("/v1/responses",),
    "openai-embeddings": ("/v1/embeddings",),
}
EXACTLY = ("--extra-inputs", "ignore_eos:true")  # where the protocol's bodies have that extension
AIPERF_ENDPOINTS = {"chat": EXACTLY, "completions": EXACTLY, "messages": (), "responses": (), "embeddings": ()}
TASKS = "aruntime_choice,aruntime_perplexity,aruntime_greedy"


def vllm_bench(url: str, model: str, tokenizer: Path, kept: Path) -> Iterator[Ran]:
    """`vllm bench serve`, each of its backends that asks for text, or for embeddings of text, by OpenAI's protocol."""
    for backend, (endpoint, *more) in VLLM_ENDPOINTS.items():
        yield run(
            f"vllm bench serve, {backend}",
            [
                *(str(environment(VLLM) / "vllm"), "bench", "serve"),
                *("--backend", backend, "--endpoint", endpoint, "--base-url", url, "--model", model),
                *("--tokenizer", str(tokenizer), "--dataset-name", "random", *more),
                *("--random-input-len", str(INPUT_TOKENS), "--random-output-len", str(OUTPUT_TOKENS)),
                *("--num-prompts", str(REQUESTS), "--max-concurrency", str(CONCURRENCY)),
            ],
            OFFLINE,
            says="Successful requests:                     20",
            telling="^=====",
        )


def aiperf(url: str, model: str, tokenizer: Path, kept: Path) -> Iterator[Ran]:
    """`aiperf profile`, streamed where the endpoint can. Told to be offline, it takes no tokenizer from a folder."""
    for kind, more in AIPERF_ENDPOINTS.items():
        yield run(
            f"aiperf profile, {kind}",
            [
                *(str(environment(AIPERF) / "aiperf"), "profile"),
                *(
                    "--model",
                    model,
                    "--url",
                    url,
                    "--endpoint-type",
                    kind,
                    "--streaming",
                    "--tokenizer",
                    str(tokenizer),
                ),
                *("--request-count", str(REQUESTS), "--concurrency", str(CONCURRENCY)),
                *("--synthetic-input-tokens-mean", str(INPUT_TOKENS), "--output-tokens-mean", str(OUTPUT_TOKENS)),
                *(*more, "--artifact-dir", str(kept / f"aiperf-{kind}")),
                *("--no-gpu-telemetry", "--no-server-metrics", "--ui-type", "none"),
            ],
            KEY | {"COLUMNS": "110"},
            says="Request Error Rate (%) │     0.00",
            telling="Time to First Token|Request Latency|Request Count",
        )


def lm_eval(url: str, model: str, tokenizer: Path, kept: Path) -> Iterator[Ran]:
    """lm-eval's local-completions on the tasks of lm_eval_task: loglikelihoods, rolling ones, and greedy answers."""
    arguments = f"model={model},base_url={url}/v1/completions,tokenizer={tokenizer},tokenizer_backend=huggingface"
    yield run(
        "lm_eval, local-completions",
        [
            *(str(environment(LM_EVAL) / "lm_eval"), "--model", "local-completions"),
            *("--model_args", f"{arguments},num_concurrent={CONCURRENCY},max_length=4096"),
            *("--include_path", ".", "--tasks", TASKS),
        ],
        OFFLINE,
        folder=HERE / "lm_eval_task",
        says="acc            |↑  |1.0000",
        telling=r"^\|",
    )
