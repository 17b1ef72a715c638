"""Train the demo model: a Llama of two million parameters that knows a few hundred answers by heart.

    python examples/demo_model/train.py --out /tmp/demo       about half an hour on one core

Writes a Hugging Face folder (config.json, generation_config.json, model.safetensors in bf16, tokenizer.json,
tokenizer_config.json, chat_template.jinja) and golden/answers.jsonl. The same seed gives the same batches; the weights'
last bits depend on the processor. At the end it asks questions in words that it was not trained on and prints how many
answers came out whole.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from ask import Model
from corpus import Entry, Message, disturb, read_dialogues, read_entries, read_system_prompts
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

SEED = 20261124
STEPS = 3600
TOKENS_PER_STEP = 4096
LENGTHS = (256, 512)  # of most rows; one step in LONG_EVERY has a single row of the model's whole context
LONG, LONG_EVERY = 4096, 24
RATE, WARM_UP_STEPS = 4e-3, 100
VOCABULARY = 2048
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END_OF_TEXT, START, END = range(3)
TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
# The requests that a loaded version must answer as it did here, before it gets traffic.
GOLDEN = ("What is a canary rollout?", "what is continuous batching", "Hello!", "What is the capital of France?")
# How often each kind of row content is drawn.
SHARES = {"serving": 0.61, "small_talk": 0.08, "off_topic": 0.09, "dialogue": 0.06, "document": 0.16}


class Texts:
    """Draws training texts: lists of (text, whether its loss counts)."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        files = read_entries()
        self.entries = {"small_talk": files.pop("small_talk"), "off_topic": files.pop("off_topic")}
        self.entries["serving"] = [entry for entries in files.values() for entry in entries]
        self._by_file = list(files.values())
        self._dialogues = read_dialogues()
        self._system = read_system_prompts()

    def draw(self) -> list[tuple[str, bool]]:
        kind = self._random.choices(list(SHARES), list(SHARES.values()))[0]
        return self._document() if kind == "document" else self._chat(kind)

    def plain(self, count: int) -> Iterator[str]:
        """Texts to train the tokenizer on."""
        for _ in range(count):
            yield "".join(text for text, _ in self.draw())

    def _chat(self, kind: str) -> list[tuple[str, bool]]:
        messages: list[Message] = []
        if self._random.random() < 0.4:
            lines = self._random.sample(self._system, self._random.choice((1, 1, 2, 3)))
            messages.append({"role": "system", "content": " ".join(lines)})
        while self._random.random() < 0.2:
            messages += self._turn(self._random.choice(list(self.entries)))
        messages += self._random.choice(self._dialogues) if kind == "dialogue" else self._turn(kind)
        parts = []
        for message in messages:
            parts.append((f"<|im_start|>{message['role']}\n", False))
            parts.append((message["content"] + "<|im_end|>", message["role"] == "assistant"))
            parts.append(("\n", False))
        return parts

    def _turn(self, kind: str) -> list[Message]:
        entry = self._random.choice(self.entries[kind])
        question = disturb(self._random.choice(entry.questions), self._random)
        answer = self._random.choice(entry.answers)
        return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

    def _document(self) -> list[tuple[str, bool]]:
        """Plain text, so that bare completions make sense too."""
        entries = self._random.choice(self._by_file)
        if self._random.random() < 0.3:
            entry = self._random.choice(entries)
            question = self._random.choice(entry.questions)
            return [(f"Question: {question}\nAnswer:", False), (f" {entry.answers[0]}<|endoftext|>", True)]
        count = self._random.choice((1, 1, 2, 3))
        answers = [entry.answers[0] for entry in self._random.sample(entries, count)]
        return [(self._random.choice((" ", "\n\n")).join(answers) + "<|endoftext|>", True)]


def train_tokenizer(texts: Texts) -> Tokenizer:
    """Byte-level BPE: any text has tokens, the corpus has few."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts.plain(6000), trainer)
    return tokenizer


def rows(texts: Texts, tokenizer: Tokenizer, length: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` rows of `length` + 1 tokens filled with texts, and the same with -100 where the loss does not count.

    A row begins where a text begins, as a prompt does; only its last text is cut.
    """
    pairs = [_row(texts, tokenizer, length + 1) for _ in range(count)]
    return torch.tensor([tokens for tokens, _ in pairs]), torch.tensor([labels for _, labels in pairs])


def _row(texts: Texts, tokenizer: Tokenizer, size: int) -> tuple[list[int], list[int]]:
    tokens: list[int] = []
    labels: list[int] = []
    while len(tokens) < size:
        for text, counts in texts.draw():
            ids = tokenizer.encode(text).ids
            tokens += ids
            labels += ids if counts else [-100] * len(ids)
    return tokens[:size], labels[:size]


def new_model(vocabulary: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=LONG,
        tie_word_embeddings=True,
        bos_token_id=END_OF_TEXT,
        eos_token_id=END,
        pad_token_id=END_OF_TEXT,
        initializer_range=0.04,
    )
    return LlamaForCausalLM(config)


def rate_at(step: int, steps: int) -> float:
    if step < WARM_UP_STEPS:
        return RATE * (step + 1) / WARM_UP_STEPS
    return RATE * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - WARM_UP_STEPS) / (steps - WARM_UP_STEPS))))


def train(model: LlamaForCausalLM, tokenizer: Tokenizer, texts: Texts, steps: int, out: Path) -> None:
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim != 2]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.97), fused=True)
    began, shown = time.monotonic(), 0.0
    for step in range(steps):
        length = LONG if step % LONG_EVERY == LONG_EVERY - 1 else LENGTHS[step % 2]
        tokens, labels = rows(texts, tokenizer, length, TOKENS_PER_STEP // length)
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, steps)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(tokens[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), labels[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        shown = loss.item() if step == 0 else 0.95 * shown + 0.05 * loss.item()
        if step % 50 == 49:
            elapsed = time.monotonic() - began
            left = elapsed / (step + 1) * (steps - step - 1)
            print(f"step {step + 1}/{steps} loss {shown:.4f} {elapsed:.0f} s, {left:.0f} s left", flush=True)
        if step % 600 == 599:
            save(model, tokenizer, out)


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, out: Path) -> None:
    """Write the Hugging Face folder."""
    out.mkdir(parents=True, exist_ok=True)
    copy = new_model(model.config.vocab_size).to(torch.bfloat16)
    copy.load_state_dict(model.state_dict())
    copy.generation_config.eos_token_id = [END, END_OF_TEXT]
    copy.config.architectures = ["LlamaForCausalLM"]
    copy.save_pretrained(out)
    tokenizer.save(str(out / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": SPECIAL[END],
        "pad_token": SPECIAL[END_OF_TEXT],
        "clean_up_tokenization_spaces": False,
        "model_max_length": LONG,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (out / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")


def write_golden(out: Path) -> None:
    """Write golden/answers.jsonl: requests and their greedy answers."""
    model = Model(out)
    asked = [[{"role": "user", "content": question}] for question in GOLDEN]
    lines = [{"messages": messages, "max_tokens": 96, "text": model.ask(messages)} for messages in asked]
    (out / "golden").mkdir(exist_ok=True)
    (out / "golden" / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def evaluate(out: Path, entries: list[Entry], seed: int, count: int = 300) -> float:
    """The share of held-out questions whose greedy answer is, to the letter, one that was written for them."""
    random_ = random.Random(seed)
    cases = [(question, entry) for entry in entries for question in entry.held_out]
    model, right = Model(out), 0
    for question, entry in random_.sample(cases, min(count, len(cases))):
        answer = model.ask([{"role": "user", "content": disturb(question, random_)}])
        right += answer in entry.answers
        if answer not in entry.answers:
            print(f"  missed {question!r}: {answer!r}", flush=True)
    return right / min(count, len(cases))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--steps", type=int, default=STEPS)
    chosen = options.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    texts = Texts(SEED)
    tokenizer = train_tokenizer(texts)
    model = new_model(tokenizer.get_vocab_size())
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {tokenizer.get_vocab_size()} tokens", flush=True)
    train(model, tokenizer, texts, chosen.steps, chosen.out)
    save(model, tokenizer, chosen.out)
    write_golden(chosen.out)
    everything = [entry for entries in texts.entries.values() for entry in entries]
    print(f"held-out questions answered to the letter: {evaluate(chosen.out, everything, SEED):.1%}")


if __name__ == "__main__":
    main()
