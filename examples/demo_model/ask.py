"""Ask a trained folder in the plainest way: transformers, no server.

python examples/demo_model/ask.py examples/repository/demo/1 "What is a canary rollout?" [--temperature 0.8]
"""

import argparse
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast


class Model:
    """A folder, loaded in fp32."""

    def __init__(self, folder: Path) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self._tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)

    def ask(self, messages: list[dict[str, str]], *, temperature: float = 0.0, max_tokens: int = 160) -> str:
        """The answer to a conversation, without special tokens."""
        ids = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        return self._run(ids, temperature, max_tokens)

    def complete(self, prompt: str, *, temperature: float = 0.0, max_tokens: int = 160) -> str:
        """The continuation of a bare text."""
        return self._run(self._tokenizer.encode(prompt), temperature, max_tokens)

    @torch.inference_mode()
    def _run(self, ids: list[int], temperature: float, max_tokens: int) -> str:
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
        output = self._model.generate(torch.tensor([ids]), max_new_tokens=max_tokens, **sampling)
        return str(self._tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("question", nargs="+")
    options.add_argument("--temperature", type=float, default=0.0)
    options.add_argument("--system")
    options.add_argument("--complete", action="store_true", help="continue the text instead of answering it")
    chosen = options.parse_args()
    model = Model(chosen.folder)
    for question in chosen.question:
        system = [{"role": "system", "content": chosen.system}] if chosen.system else []
        messages = [*system, {"role": "user", "content": question}]
        complete = model.complete(question, temperature=chosen.temperature) if chosen.complete else None
        answer = complete if complete is not None else model.ask(messages, temperature=chosen.temperature)
        sys.stdout.write(f"> {question}\n{answer}\n\n")


if __name__ == "__main__":
    main()
