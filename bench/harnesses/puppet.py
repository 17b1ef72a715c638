"""A checkpoint that says what it is told to: for programs that want a model to call a certain function, or fill a form.

The server takes it for any other Llama. The chat template looks at the conversation and ends the prompt with the token
of a script; in the weights, which are a table and no more, every token is followed by one certain token:

    prompt … <|script 3|>  ->  `<tool_call>`  ->  `{"name`  ->  …  ->  `</tool_call>`  ->  <|end|>

An embedding is one-hot, what the one layer adds is zero, and the output matrix holds one large number in each column.
Where a grammar forbids the token that follows, the puppet closes what is open, and ends soon. (Of a text that leaves no
choice, a grammar allows the tokens that the tokenizer would make of it, and those are single bytes.)
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

END = "<|end|>"
PIECE = 6  # characters of a script in one token, or more where those are taken
CERTAIN = 8.0  # times the root of the hidden size: nothing else is ever drawn
CLOSING = (END, '"', "}", "]")  # what is said, the first that may be, where the script may not go on
CONTEXT, HEADS, HEAD = 4096, 2, 32
ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Script:
    """What is said to a conversation whose last message has `words`, and whose first tool is `tool`, if it has one."""

    says: str
    words: str = ""
    tool: str = ""

    @property
    def condition(self) -> str:
        """As Jinja sees it."""
        tool = f"tools and tools[0].function.name == '{self.tool}'" if self.tool else "not tools"
        return f"{tool} and messages[-1].role == 'user' and '{self.words}' in messages[-1].content"


def call(name: str, **arguments: object) -> str:
    """A call of a function, as Hermes' and Qwen's models write it."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def write(folder: Path, scripts: Sequence[Script], otherwise: str) -> Path:
    """Write the Hugging Face folder and return it. The first script whose condition holds is said, else `otherwise`."""
    folder.mkdir(parents=True)
    starts = [f"<|script {number}|>" for number in range(len(scripts) + 1)]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    lines = _cut_apart([*(script.says for script in scripts), otherwise], set(alphabet))
    tokens = [*alphabet, *(piece for line in lines for piece in line)]
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [END, *(f"<|{role}|>" for role in ROLES), *starts]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    template = _template([script.condition for script in scripts], starts)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": END, "chat_template": template}))
    ids = tokenizer.get_vocab()
    after = np.full(len(ids), ids[END])
    for start, line in zip(starts, lines, strict=True):
        for one, other in pairwise([start, *line]):
            after[ids[one]] = ids[other]
    _write_model(folder, after, [ids[token] for token in CLOSING])
    return folder


def _cut_apart(texts: Sequence[str], taken: set[str]) -> list[list[str]]:
    """Each text in pieces, none of which is in any other: a piece then says where in which text it stands."""
    lines = []
    for text in texts:
        line = _cut(text.replace(" ", "Ġ").replace("\n", "Ċ"), frozenset(taken))
        if line is None:
            raise ValueError(f"{text!r} has no piece of its own")
        taken.update(line)
        lines.append(line)
    return lines


def _cut(text: str, taken: frozenset[str]) -> list[str] | None:
    """`text` in pieces that are not `taken`, as short as can be."""
    for size in range(min(PIECE, len(text)), len(text) + 1):
        piece, rest = text[:size], text[size:]
        if piece in taken:
            continue
        more = _cut(rest, taken | {piece}) if rest else []
        if more is not None:
            return [piece, *more]
    return None


def _template(conditions: Sequence[str], starts: Sequence[str]) -> str:
    """A chat template that ends with the token of the first script whose condition holds, or with the last one's."""
    message = "{{ '<|' + message.role + '|>' + (message.content or '') + '" + END + "' }}"
    chosen = "".join(
        f"{{%- {'elif' if number else 'if'} {condition} %}}{{{{ '{start}' }}}}"
        for number, (condition, start) in enumerate(zip(conditions, starts, strict=False))
    )
    return (
        f"{{#- <tool_call> #}}{{%- for message in messages %}}{message}{{%- endfor %}}"
        f"{{%- if add_generation_prompt %}}{chosen}{{%- else %}}{{{{ '{starts[-1]}' }}}}{{%- endif %}}{{%- endif %}}"
    )


def _write_model(folder: Path, after: "np.ndarray[tuple[int], np.dtype[np.int64]]", closing: Sequence[int]) -> None:
    """The weights of a model that says token `after[t]` after token t ([vocabulary] int64), and their config.

    Of `closing` it says the first that may be said where that one may not; the very first ends the answer.
    """
    vocabulary = len(after)
    hidden = -(-vocabulary // 64) * 64
    output = np.zeros((vocabulary, hidden), np.float32)
    for rank, token in enumerate(closing, start=1):
        output[token] = CERTAIN - rank
    output[after, np.arange(vocabulary)] = CERTAIN
    zeros = {
        "self_attn.q_proj": (HEADS * HEAD, hidden),
        "self_attn.k_proj": (HEADS * HEAD, hidden),
        "self_attn.v_proj": (HEADS * HEAD, hidden),
        "self_attn.o_proj": (hidden, HEADS * HEAD),
        "mlp.gate_proj": (HEAD, hidden),
        "mlp.up_proj": (HEAD, hidden),
        "mlp.down_proj": (hidden, HEAD),
    }
    norms = ("model.norm", "model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm")
    weights = {f"model.layers.0.{name}.weight": np.zeros(shape, np.float32) for name, shape in zeros.items()}
    weights |= {f"{name}.weight": np.ones((hidden,), np.float32) for name in norms}
    weights |= {"model.embed_tokens.weight": np.eye(vocabulary, hidden, dtype=np.float32), "lm_head.weight": output}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": 1,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "head_dim": HEAD,
        "intermediate_size": HEAD,
        "max_position_embeddings": CONTEXT,
        "vocab_size": vocabulary,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10_000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "eos_token_id": closing[0],
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "model.safetensors")
