from torch import Tensor

def set_threads(count: int) -> None: ...
def threads() -> int: ...
def instruction_set() -> str: ...
def use_instruction_set(name: str) -> None: ...

class PackedWeight:
    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def nbytes(self) -> int: ...

def linear(x: Tensor, weight: PackedWeight, out: Tensor) -> None: ...
def embed(token_ids: Tensor, table: Tensor, out: Tensor) -> None: ...
def rms_norm(x: Tensor, weight: Tensor, out: Tensor, *, eps: float, residual: Tensor | None = None) -> None: ...
def rotary(query: Tensor, key: Tensor, positions: Tensor, cos_sin: Tensor) -> None: ...
def silu_mul(gate_up: Tensor, out: Tensor) -> None: ...
def store_kv(key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slot_mapping: Tensor) -> None: ...
def decode_attention(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_tables: Tensor,
    context_len: Tensor,
    out: Tensor,
    *,
    scale: float,
    block_tokens: int,
    window: int = 0,
    partial: object = None,
) -> None: ...
def prefill_attention(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    block_tables: Tensor,
    query_start: Tensor,
    context_len: Tensor,
    out: Tensor,
    *,
    scale: float,
    block_tokens: int,
    window: int = 0,
) -> None: ...
def ban(logits: Tensor, row: Tensor, token: Tensor) -> None: ...
def bias(logits: Tensor, row: Tensor, token: Tensor, bias: Tensor) -> None: ...
def mask(logits: Tensor, row: Tensor, words: Tensor) -> None: ...
def penalize(
    logits: Tensor,
    row: Tensor,
    token: Tensor,
    output_count: Tensor,
    in_prompt: Tensor,
    presence: Tensor,
    frequency: Tensor,
    repetition: Tensor,
) -> None: ...
def sample(
    logits: Tensor,
    out: Tensor,
    *,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    seed: Tensor,
    position: Tensor,
    logprob: Tensor | None = None,
) -> None: ...
def likely(
    logits: Tensor, row: Tensor, token: Tensor, logprob: Tensor, top_token: Tensor, top_logprob: Tensor
) -> None: ...
