"""What config.json of a Hugging Face folder says about a decoder, checked. Loads no torch.

    Llama     rope scaling (llama3, linear), optional biases of attention and MLP
    Mistral   one sliding window in every layer
    Qwen2     biases of query, key and value; a window in its upper layers, if it is switched on
    Qwen3     norms of each query and key head; window as Qwen2

Both spellings are read: `rope_theta` with `rope_scaling`, and the `rope_parameters` of transformers 5.
What would compute something else than is written there is refused, never ignored.
"""

from dataclasses import dataclass
from pathlib import Path

from aruntime.model.fields import CheckpointRefused, Fields

__all__ = ["CheckpointRefused", "ModelConfig", "Rope"]

# The largest values of published decoders, and room above: past them a config is a mistake or an attack.
_VOCAB_MAX = 1 << 22
_WIDTH_MAX = 1 << 18
_LAYERS_MAX = 1024
_HEADS_MAX = 1024
_HEAD_DIM_MAX = 512
_CONTEXT_MAX = 1 << 22
_PARAMETERS_MAX = 1 << 42

_MODEL_TYPES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
_ROPE_FIELDS = frozenset(
    "rope_type type rope_theta factor low_freq_factor high_freq_factor original_max_position_embeddings "
    "partial_rotary_factor".split()
)


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary frequencies. `kind`: default, linear or llama3; the other fields mean what they mean in `rope_scaling`."""

    kind: str
    theta: float
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 0


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of a decoder. `windows` has a number for each layer: how many tokens it sees back, 0 for all."""

    model_type: str
    vocab: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context_max: int
    norm_eps: float
    rope: Rope
    windows: tuple[int, ...]
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    head_norms: bool
    tied: bool
    eos_token_ids: tuple[int, ...]

    @classmethod
    def from_folder(cls, folder: Path) -> "ModelConfig":
        """Read config.json and, for the ends of text, generation_config.json. CheckpointRefused: it is not served."""
        fields = Fields.from_file(folder / "config.json")
        config = _read(fields, _model_type(fields), _eos_token_ids(fields, folder))
        if config.parameters > _PARAMETERS_MAX:
            raise CheckpointRefused(
                f"config.json: {config.parameters} parameters; at most {_PARAMETERS_MAX} are served"
            )
        return config

    @property
    def query_size(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_size(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def parameters(self) -> int:
        """How many numbers the matrices hold."""
        attention = (2 * self.query_size + 2 * self.kv_size) * self.hidden
        embeddings = (1 if self.tied else 2) * self.vocab * self.hidden
        return embeddings + self.layers * (attention + 3 * self.hidden * self.intermediate)


def _model_type(fields: Fields) -> str:
    """The model type, of a config that asks for nothing that is not served."""
    if "auto_map" in fields:
        raise CheckpointRefused("config.json has auto_map: code from a model folder is never run")
    if "quantization_config" in fields:
        raise CheckpointRefused("config.json has quantization_config: quantized checkpoints are not served")
    names = fields.texts("architectures", 8)
    model_type = _MODEL_TYPES.get(names[0]) if len(names) == 1 else None
    if model_type is None:
        raise fields.refusal("architectures", "one of " + ", ".join(_MODEL_TYPES))
    if fields.text("model_type", model_type) != model_type:
        raise fields.refusal("model_type", f"{model_type}, which belongs to {names[0]}")
    if fields.text("hidden_act", "silu") != "silu":
        raise fields.refusal("hidden_act", "silu")
    return model_type


def _read(fields: Fields, model_type: str, eos_token_ids: tuple[int, ...]) -> ModelConfig:
    hidden = fields.whole("hidden_size", 1, _WIDTH_MAX)
    heads, kv_heads, head_dim = _heads(fields, model_type, hidden)
    layers = fields.whole("num_hidden_layers", 1, _LAYERS_MAX)
    vocab = fields.whole("vocab_size", 1, _VOCAB_MAX)
    if any(token >= vocab for token in eos_token_ids):
        raise CheckpointRefused(f"eos_token_id {max(eos_token_ids)} is outside the vocabulary of {vocab}")
    attention_bias = model_type in ("llama", "qwen3") and fields.flag("attention_bias", False)
    return ModelConfig(
        model_type=model_type,
        vocab=vocab,
        hidden=hidden,
        intermediate=fields.whole("intermediate_size", 1, _WIDTH_MAX),
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        context_max=fields.whole("max_position_embeddings", 1, _CONTEXT_MAX),
        norm_eps=fields.real("rms_norm_eps", 1e-12, 1.0),
        rope=_rope(fields),
        windows=_windows(fields, model_type, layers),
        qkv_bias=model_type == "qwen2" or attention_bias,
        output_bias=attention_bias,
        mlp_bias=model_type == "llama" and fields.flag("mlp_bias", False),
        head_norms=model_type == "qwen3",
        tied=fields.flag("tie_word_embeddings", False),
        eos_token_ids=eos_token_ids,
    )


def _heads(fields: Fields, model_type: str, hidden: int) -> tuple[int, int, int]:
    """Query heads, kv heads and the size of a head."""
    heads = fields.whole("num_attention_heads", 1, _HEADS_MAX)
    # Null means as many as query heads; only in Llama does absence mean that too.
    default = heads if model_type == "llama" or fields.says("num_key_value_heads") else None
    kv_heads = fields.whole("num_key_value_heads", 1, heads, default)
    if heads % kv_heads:
        raise fields.refusal("num_key_value_heads", f"a divisor of {heads} attention heads")
    # An absent head_dim is 128 in Qwen3 and follows from the width everywhere else.
    if "head_dim" not in fields and model_type != "qwen3" and hidden % heads:
        raise fields.refusal("hidden_size", f"a multiple of {heads} attention heads")
    head_dim = fields.whole("head_dim", 2, _HEAD_DIM_MAX, 128 if model_type == "qwen3" else hidden // heads)
    if head_dim % 2:
        raise fields.refusal("head_dim", "an even number")
    return heads, kv_heads, head_dim


def _eos_token_ids(fields: Fields, folder: Path) -> tuple[int, ...]:
    """The tokens that end a text, according to either file; chat checkpoints often name one more in the second."""
    ids = set(fields.wholes("eos_token_id", 0, _VOCAB_MAX))
    generation = folder / "generation_config.json"
    if generation.exists():
        ids.update(Fields.from_file(generation).wholes("eos_token_id", 0, _VOCAB_MAX))
    return tuple(sorted(ids))


def _rope(fields: Fields) -> Rope:
    scaling = fields.object("rope_scaling" if "rope_scaling" in fields else "rope_parameters")
    theta = (scaling if "rope_theta" in scaling else fields).real("rope_theta", 1.0, 1e12, 1e4)
    for holder in (fields, scaling):
        if holder.real("partial_rotary_factor", 0.0, 1.0, 1.0) != 1.0:
            raise holder.refusal("partial_rotary_factor", "1")
    kind = scaling.text("rope_type", scaling.text("type", "default"))
    if kind not in ("default", "linear", "llama3"):
        raise CheckpointRefused(f"{scaling.where}: rope type {kind[:40]!r} is not served; default, linear, llama3 are")
    if unknown := [name for name in scaling.names() if name not in _ROPE_FIELDS]:
        raise CheckpointRefused(f"{scaling.where}: {unknown[0][:40]!r} is not served")
    if kind == "default":
        return Rope(kind, theta)
    factor = scaling.real("factor", 1.0, 1e6)
    if kind == "linear":
        return Rope(kind, theta, factor)
    low = scaling.real("low_freq_factor", 1e-6, 1e6)
    high = scaling.real("high_freq_factor", 1e-6, 1e6)
    if high <= low:
        raise scaling.refusal("high_freq_factor", f"more than low_freq_factor {low:g}")
    return Rope(kind, theta, factor, low, high, scaling.whole("original_max_position_embeddings", 1, _CONTEXT_MAX))


def _windows(fields: Fields, model_type: str, layers: int) -> tuple[int, ...]:
    """How far each layer sees; `layer_types` wins over the older rule by `max_window_layers`."""
    if model_type == "llama":
        return (0,) * layers
    if model_type == "mistral":
        return (_window(fields),) * layers
    window = _window(fields) if fields.flag("use_sliding_window", False) else 0
    if "layer_types" not in fields:
        first = fields.whole("max_window_layers", 0, _LAYERS_MAX, 28)
        return tuple(window if layer >= first else 0 for layer in range(layers))
    kinds = fields.texts("layer_types", _LAYERS_MAX)
    if len(kinds) != layers or not set(kinds) <= {"full_attention", "sliding_attention"}:
        raise fields.refusal("layer_types", f"full_attention or sliding_attention for each of {layers} layers")
    return tuple(window if kind == "sliding_attention" else 0 for kind in kinds)


def _window(fields: Fields) -> int:
    """Null means none; absence is the 4096 of Mistral 7B, which all of these families took over."""
    null = fields.says("sliding_window") and "sliding_window" not in fields
    return 0 if null else fields.whole("sliding_window", 1, _CONTEXT_MAX, 4096)
