"""Texts as token ids and back: the bodies and answers of /tokenize and /detokenize, in vLLM's shapes.

{model, prompt | messages} -> {count, max_model_len, tokens, token_strs}      {model, tokens} -> {prompt}
"""

from collections.abc import Sequence
from typing import Annotated

import orjson
from pydantic import Field

from aruntime.wire import refused
from aruntime.wire.body import Strict, check, load_object, parse
from aruntime.wire.conversation import Conversation, Options
from aruntime.wire.fields import TOKENS_MAX, ModelName, TokenId
from aruntime.wire.openai_messages import Messages, Tools


class TokenizeText(Strict):
    """The ids of a bare text. Special tokens spelled in it are text, as in a prompt."""

    model: ModelName
    prompt: str
    add_special_tokens: bool = True
    return_token_strs: bool = False


class TokenizeChat(Strict):
    """The ids of a conversation, as the model's template frames it: the special tokens are the template's."""

    not_served = {  # noqa: RUF012
        "add_special_tokens": refused.CHAT["add_special_tokens"],
        "chat_template": refused.CHAT["chat_template"],
        "continue_final_message": refused.CHAT["continue_final_message"],
        "mm_processor_kwargs": refused.CHAT["mm_processor_kwargs"],
    }

    model: ModelName
    messages: Messages
    tools: Tools | None = None
    chat_template_kwargs: Options | None = None
    add_generation_prompt: bool = True
    return_token_strs: bool = False

    @property
    def conversation(self) -> Conversation:
        """What is to be framed."""
        return Conversation(
            messages=[one.message() for one in self.messages],
            tools=[one.tool() for one in self.tools or ()],
            options=self.chat_template_kwargs,
        )


class Detokenize(Strict):
    """The text of ids."""

    model: ModelName
    tokens: Annotated[list[TokenId], Field(max_length=TOKENS_MAX, fail_fast=True)]


def parse_tokenize(body: bytes) -> TokenizeText | TokenizeChat:
    """Read a request for the ids of a text, or of a conversation. InvalidRequest names the first wrong field."""
    raw = load_object(body)
    return check(raw, TokenizeChat) if "messages" in raw else check(raw, TokenizeText)


def parse_detokenize(body: bytes) -> Detokenize:
    """Read a request for the text of ids. InvalidRequest names the first wrong field."""
    return parse(body, Detokenize)


def write_tokens(tokens: Sequence[int], names: list[str] | None, max_model_len: int) -> bytes:
    """The ids of a text, with their names in the vocabulary when those are wanted."""
    return orjson.dumps(
        {"count": len(tokens), "max_model_len": max_model_len, "tokens": list(tokens), "token_strs": names}
    )


def write_text(text: str) -> bytes:
    """The text of ids."""
    return orjson.dumps({"prompt": text})
