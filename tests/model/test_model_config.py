"""config.json is read as transformers reads it, in both spellings; what is not served is refused by name."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aruntime.model.config import CheckpointRefused, ModelConfig, Rope

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 311,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
}
MISTRAL = LLAMA | {"architectures": ["MistralForCausalLM"], "model_type": "mistral"}
QWEN2 = LLAMA | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
QWEN3 = LLAMA | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}
LLAMA3_SCALING = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}


def read(folder: Path, config: Any, generation: Any = None) -> ModelConfig:
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return ModelConfig.from_folder(folder)


def test_llama_3_1_8b_is_read_as_it_is_published(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        {
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": 128000,
            "eos_token_id": [128001, 128008, 128009],
            "hidden_act": "silu",
            "hidden_size": 4096,
            "initializer_range": 0.02,
            "intermediate_size": 14336,
            "max_position_embeddings": 131072,
            "mlp_bias": False,
            "model_type": "llama",
            "num_attention_heads": 32,
            "num_hidden_layers": 32,
            "num_key_value_heads": 8,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-05,
            "rope_scaling": LLAMA3_SCALING,
            "rope_theta": 500000.0,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "use_cache": True,
            "vocab_size": 128256,
        },
    )
    assert config == ModelConfig(
        model_type="llama",
        vocab=128256,
        hidden=4096,
        intermediate=14336,
        layers=32,
        heads=32,
        kv_heads=8,
        head_dim=128,
        context_max=131072,
        norm_eps=1e-5,
        rope=Rope("llama3", 500000.0, 8.0, 1.0, 4.0, 8192),
        windows=(0,) * 32,
        qkv_bias=False,
        output_bias=False,
        mlp_bias=False,
        head_norms=False,
        tied=False,
        eos_token_ids=(128001, 128008, 128009),
    )
    assert config.parameters == 8_029_995_008


def test_qwen3_0_6b_has_heads_wider_than_its_width_and_norms_on_them(tmp_path: Path) -> None:
    published = {
        "architectures": ["Qwen3ForCausalLM"],
        "attention_bias": False,
        "eos_token_id": 151645,
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "max_position_embeddings": 40960,
        "max_window_layers": 28,
        "model_type": "qwen3",
        "num_attention_heads": 16,
        "num_hidden_layers": 28,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "vocab_size": 151936,
    }
    config = read(tmp_path, published, {"eos_token_id": [151645, 151643]})
    assert (config.query_size, config.kv_size, config.head_norms, config.tied) == (2048, 1024, True, True)
    assert config.rope == Rope("default", 1e6)
    assert config.windows == (0,) * 28
    assert config.eos_token_ids == (151643, 151645)


@pytest.mark.parametrize("scaling", [LLAMA3_SCALING, {"rope_type": "linear", "factor": 4.0}, {"rope_type": "default"}])
def test_the_two_spellings_of_rope_mean_the_same(tmp_path: Path, scaling: dict[str, Any]) -> None:
    classic = read(tmp_path, LLAMA | {"rope_theta": 5e5, "rope_scaling": scaling})
    assert read(tmp_path, LLAMA | {"rope_parameters": {"rope_theta": 5e5, **scaling}}) == classic
    older = {"type" if name == "rope_type" else name: value for name, value in scaling.items()}
    assert read(tmp_path, LLAMA | {"rope_theta": 5e5, "rope_scaling": older}) == classic
    assert classic.rope.theta == 5e5


def test_biases_follow_the_family(tmp_path: Path) -> None:
    def biases(config: dict[str, Any]) -> tuple[bool, bool, bool]:
        read_config = read(tmp_path, config)
        return read_config.qkv_bias, read_config.output_bias, read_config.mlp_bias

    assert biases(LLAMA) == (False, False, False)
    assert biases(LLAMA | {"attention_bias": True, "mlp_bias": True}) == (True, True, True)
    assert biases(MISTRAL) == (False, False, False)
    assert biases(QWEN2) == (True, False, False)
    assert biases(QWEN3 | {"attention_bias": True}) == (True, True, False)


def test_windows_follow_the_family(tmp_path: Path) -> None:
    def windows(config: dict[str, Any]) -> tuple[int, ...]:
        return read(tmp_path, config).windows

    assert windows(MISTRAL | {"sliding_window": 64}) == (64, 64, 64)
    assert windows(MISTRAL | {"sliding_window": None}) == (0, 0, 0)
    assert windows(MISTRAL) == (4096, 4096, 4096)
    assert windows(QWEN2 | {"sliding_window": 64, "max_window_layers": 1}) == (0, 0, 0)
    sliding = {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1}
    assert windows(QWEN2 | sliding) == (0, 64, 64)
    kinds = ["sliding_attention", "full_attention", "full_attention"]
    assert windows(QWEN3 | sliding | {"layer_types": kinds}) == (64, 0, 0)


def test_what_is_absent_has_the_value_of_the_family(tmp_path: Path) -> None:
    without = {name: value for name, value in LLAMA.items() if name != "num_key_value_heads"}
    config = read(tmp_path, without)
    assert (config.kv_heads, config.head_dim, config.rope, config.tied) == (6, 16, Rope("default", 1e4), False)
    assert read(tmp_path, QWEN3).head_dim == 128
    assert read(tmp_path, MISTRAL | {"num_key_value_heads": None}).kv_heads == 6


REFUSED = [
    (
        LLAMA | {"architectures": ["GPT2LMHeadModel"]},
        "architectures: want one of LlamaForCausalLM.*got .*GPT2LMHeadModel",
    ),
    (LLAMA | {"architectures": []}, "architectures: want one of"),
    ({name: value for name, value in LLAMA.items() if name != "architectures"}, "architectures is missing"),
    (LLAMA | {"model_type": "mistral"}, "model_type: want llama, which belongs to LlamaForCausalLM"),
    (LLAMA | {"auto_map": {"AutoModel": "modeling.Model"}}, "auto_map: code from a model folder is never run"),
    (LLAMA | {"quantization_config": {"quant_method": "gptq"}}, "quantized checkpoints are not served"),
    (LLAMA | {"hidden_act": "gelu"}, 'hidden_act: want silu, got "gelu"'),
    (LLAMA | {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope type 'yarn' is not served"),
    (LLAMA | {"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "rope type 'dynamic' is not served"),
    (LLAMA | {"rope_parameters": {"rope_type": "longrope"}}, "rope type 'longrope' is not served"),
    (LLAMA | {"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "'full_attention' is not served"),
    (LLAMA | {"rope_scaling": {"rope_type": "linear"}}, "rope_scaling: factor is missing"),
    (LLAMA | {"rope_scaling": LLAMA3_SCALING | {"high_freq_factor": 1.0}}, "high_freq_factor: want more than"),
    (LLAMA | {"partial_rotary_factor": 0.5}, "partial_rotary_factor: want 1, got 0.5"),
    (LLAMA | {"rope_theta": 0}, "rope_theta: want a number"),
    (LLAMA | {"num_key_value_heads": 4}, "num_key_value_heads: want a divisor of 6"),
    (LLAMA | {"num_key_value_heads": 12}, "num_key_value_heads: want an integer from 1 to 6, got 12"),
    ({name: value for name, value in QWEN2.items() if name != "num_key_value_heads"}, "num_key_value_heads is missing"),
    (LLAMA | {"hidden_size": 100}, "hidden_size: want a multiple of 6"),
    (LLAMA | {"head_dim": 15}, "head_dim: want an even number, got 15"),
    (LLAMA | {"num_hidden_layers": 0}, "num_hidden_layers: want an integer"),
    (LLAMA | {"num_hidden_layers": True}, "num_hidden_layers: want an integer"),
    (LLAMA | {"num_hidden_layers": 3.0}, "num_hidden_layers: want an integer"),
    (LLAMA | {"vocab_size": 2**63}, "vocab_size: want an integer"),
    (LLAMA | {"vocab_size": -1}, "vocab_size: want an integer"),
    (LLAMA | {"max_position_embeddings": 2**40}, "max_position_embeddings: want an integer"),
    (
        LLAMA | {"hidden_size": 2**18, "head_dim": 64, "intermediate_size": 2**18, "num_hidden_layers": 1024},
        "parameters; at most",
    ),
    (LLAMA | {"rms_norm_eps": 0}, "rms_norm_eps: want a number"),
    (LLAMA | {"rms_norm_eps": "1e-5"}, "rms_norm_eps: want a number"),
    (LLAMA | {"tie_word_embeddings": 1}, "tie_word_embeddings: want true or false"),
    (LLAMA | {"eos_token_id": 311}, "eos_token_id 311 is outside the vocabulary of 311"),
    (LLAMA | {"eos_token_id": -1}, "eos_token_id: want integers"),
    (LLAMA | {"eos_token_id": list(range(65))}, "eos_token_id: want integers"),
    (
        QWEN2 | {"layer_types": ["full_attention"]},
        "layer_types: want full_attention or sliding_attention for each of 3",
    ),
    (QWEN2 | {"layer_types": ["linear_attention"] * 3}, "layer_types: want"),
    (MISTRAL | {"sliding_window": 0}, "sliding_window: want an integer"),
    ("{", "config.json is not JSON"),
    ("[" * 100_000, "config.json is not JSON"),
    ("[]", "config.json is not a JSON object"),
    (json.dumps(LLAMA | {"x": "y" * (1 << 20)}), "at most 1048576 bytes"),
    (json.dumps(LLAMA).replace("1e-05", "NaN"), "rms_norm_eps: want a number"),
]


@pytest.mark.parametrize(("config", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_a_config_that_is_not_served_is_refused_with_the_reason(tmp_path: Path, config: Any, reason: str) -> None:
    with pytest.raises(CheckpointRefused, match=reason):
        read(tmp_path, config)


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointRefused, match=r"config\.json cannot be read: No such file"):
        ModelConfig.from_folder(tmp_path)


def test_a_config_is_read_without_torch() -> None:
    program = "import sys; import aruntime.model.config; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
