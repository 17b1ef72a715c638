"""Text to token ids and back, for one model version; the tokenizers library does the work, no torch is loaded.

What a user writes never becomes a control token: special_tokens.py says how.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from aruntime.model.chat_template import ChatTemplate, TemplateRefused
from aruntime.model.config import CheckpointRefused
from aruntime.model.detokenizer import Detokenizer, Vocabulary
from aruntime.model.special_tokens import SpecialTokens
from aruntime.model.speech.described import described
from aruntime.model.speech.formats import MARKS, speech_of

# Only the library's batches let the interpreter go while they work (0.21 to 0.23); a batch of one needs no threads.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class Tokenizer:
    """Encodes texts and chats, and makes detokenizers. Safe to share between threads."""

    def __init__(self, definition: Mapping[str, Any], config: Mapping[str, Any], template: ChatTemplate | None) -> None:
        """`definition` is tokenizer.json, `config` tokenizer_config.json; ValueError when they make no tokenizer."""
        self._first = _backend(definition)
        self._later = _backend(_without_first_prefix(definition)) if _has_first_prefix(definition) else self._first
        self._template = template
        self.has_template = template is not None
        added = self._first.get_added_tokens_decoder()
        special = {number: token for number, token in added.items() if token.special and token.content}
        self.speech = speech_of(template, {token.content for token in special.values()})
        self._special = SpecialTokens(special)
        self._prefix, self._suffix = self._around()
        self._vocabulary = Vocabulary(self._first, definition.get("decoder"), MARKS)
        self.vocab_size = self._first.get_vocab_size(with_added_tokens=True)
        self.bos_id = self._id_of(config.get("bos_token"))
        self.eos_id = self._id_of(config.get("eos_token"))
        self.special_ids = frozenset(special)

    @classmethod
    def from_folder(cls, folder: Path) -> "Tokenizer":
        """Read tokenizer.json, tokenizer_config.json and the chat template. CheckpointRefused says what is wrong."""
        try:
            definition = _read_json(folder / "tokenizer.json")
            has_config = (folder / "tokenizer_config.json").is_file()
            config = _read_json(folder / "tokenizer_config.json") if has_config else {}
            return cls(definition, config, ChatTemplate.from_folder(folder, config))
        except FileNotFoundError:
            raise CheckpointRefused("tokenizer.json is missing") from None
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointRefused(f"the tokenizer cannot be read: {error}") from error

    def encode(self, text: str, *, special: bool = False, add_bos: bool = True) -> list[int]:
        """The ids of a bare text.

        `special`: special tokens spelled in it count; `add_bos`: what the model puts around a text (its BOS) is added.
        """
        ids = list(self._split(text)) if special else self._piece(text, first=True)
        return [*self._prefix, *ids, *self._suffix] if add_bos else ids

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """The ids of a conversation, as the model's template frames it. TemplateRefused when it cannot.

        `options` are a request's values for names that the template knows, such as `enable_thinking`.
        """
        if self._template is None:
            raise TemplateRefused("this model has no chat template; use completions")
        if not self.speech.shows_tools and (tools or any(_has_calls(message) for message in messages)):
            messages, tools = described(messages, tools or ()), None
        marker = self._special.marker(messages, tools, options)
        text = self._template.render(
            self._special.broken(messages, marker),
            tools=self._special.broken(tools, marker),
            options=self._special.broken(options, marker),
            add_generation_prompt=add_generation_prompt,
        )
        return list(self._split(text, marker))

    def detokenizer(self, *, marks: bool = False, begins: bool = True) -> Detokenizer:
        """A fresh incremental decoder; special tokens have no text, but `marks` of calls and thoughts if they shall.

        Unless a text `begins` with it, the space before its first word stays, which some decoders take away.
        """
        return self._vocabulary.detokenizer(marks=marks, begins=begins)

    def opens_thought(self, ids: Sequence[int]) -> bool:
        """Whether a prompt ends in the beginning of a thought, which the answer goes on with."""
        thoughts = self.speech.thoughts
        return thoughts is not None and self.decode(list(ids[-8:]), special=True).rstrip().endswith(thoughts.opening)

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """The whole text of `ids`, without special tokens unless `special`. Ids that no token has are no text."""
        return str(self._first.decode_batch([ids], skip_special_tokens=not special)[0])

    def spell(self, token_id: int) -> bytes:
        """The bytes that a token stands for, which may be a part of a character; a special token's are its name."""
        return self._vocabulary.spell(token_id)

    def name(self, token_id: int) -> str:
        """What the vocabulary calls a token; "" when it has none of that id."""
        return self._first.id_to_token(token_id) or ""

    def _split(self, text: str, marker: str = "") -> Iterator[int]:
        """The ids of `text`, whose special tokens count unless `marker` breaks them."""
        for place, part in enumerate(self._special.split(text, marker)):
            if isinstance(part, int):
                yield part
            else:
                yield from self._piece(part, first=place == 0)

    def _piece(self, text: str, *, first: bool) -> list[int]:
        backend = self._first if first else self._later
        return list(backend.encode_batch_fast([text], add_special_tokens=False)[0].ids) if text else []

    def _around(self) -> tuple[list[int], list[int]]:
        """What the model's post-processor puts before and after a text."""
        bare = self._first.encode("a", add_special_tokens=False).ids
        framed = self._first.encode("a", add_special_tokens=True).ids
        start = next((at for at in range(len(framed)) if framed[at : at + len(bare)] == bare), 0)
        return framed[:start], framed[start + len(bare) :]

    def _id_of(self, token: Any) -> int | None:
        content = token.get("content") if isinstance(token, dict) else token
        return self._first.token_to_id(content) if isinstance(content, str) else None


def _has_calls(message: Mapping[str, Any]) -> bool:
    return message.get("role") == "tool" or "tool_calls" in message


def _read_json(file: Path) -> dict[str, Any]:
    value = json.loads(file.read_bytes())
    if not isinstance(value, dict):
        raise ValueError(f"{file.name} is not an object")
    return value


def _backend(definition: Mapping[str, Any]) -> tokenizers.Tokenizer:
    try:
        backend = tokenizers.Tokenizer.from_str(json.dumps(definition))
    except Exception as error:  # the library raises a bare Exception
        raise ValueError(str(error)[:200]) from error
    backend.no_padding()
    backend.no_truncation()
    backend.encode_special_tokens = True  # that is: spell them, do not match them
    return backend


def _has_first_prefix(definition: Mapping[str, Any]) -> bool:
    splitter = definition.get("pre_tokenizer") or {}
    return splitter.get("type") == "Metaspace" and splitter.get("prepend_scheme") == "first"


def _without_first_prefix(definition: Mapping[str, Any]) -> dict[str, Any]:
    """For pieces that do not begin the text: encoded alone, each would take itself for the first."""
    return {**definition, "pre_tokenizer": {**definition["pre_tokenizer"], "prepend_scheme": "never"}}
