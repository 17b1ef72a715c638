"""Text becomes token ids: short texts at once, long ones in a few threads, so that the event loop goes on.

What else is small at once and slow when it is large goes the same way: compression.
"""

import asyncio
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from aruntime.base.errors import InvalidRequest, Overloaded
from aruntime.http.limits import HttpLimits
from aruntime.model.chat_template import TemplateRefused
from aruntime.model.tokenizer import Tokenizer
from aruntime.wire.conversation import Conversation

Result = TypeVar("Result")


class Encoder:
    """Encodes prompts within `limits`. The tokenizers library lets the interpreter go while it works."""

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._threads = ThreadPoolExecutor(limits.encode_threads, "encode")
        self._compiler = ThreadPoolExecutor(1, "grammar")
        self._waiting = 0

    async def text(self, tokenizer: Tokenizer, text: str, *, add_bos: bool = True) -> "array[int]":
        """The ids of a bare prompt, with what the model puts around a text if `add_bos`."""
        return await self.run(len(text), lambda: array("i", tokenizer.encode(text, add_bos=add_bos)))

    async def chat(
        self,
        tokenizer: Tokenizer,
        conversation: Conversation,
        *,
        field: str = "messages",
        add_generation_prompt: bool = True,
    ) -> "array[int]":
        """The ids of a conversation, which the client calls `field`. InvalidRequest: the template cannot render it."""

        def encode() -> "array[int]":
            ids = tokenizer.encode_chat(
                conversation.messages_for_template,
                add_generation_prompt=add_generation_prompt,
                tools=[tool.for_template() for tool in conversation.callable_tools] or None,
                options=conversation.options,
            )
            return array("i", ids)

        try:
            return await self.run(conversation.characters, encode)
        except TemplateRefused as error:
            raise InvalidRequest(f"{field}: {error}", param=field) from None

    async def run(self, size: int, work: Callable[[], Result]) -> Result:
        """What `work` makes of `size` characters or bytes. Overloaded when too many wait for a thread."""
        return work() if size <= self._limits.inline_characters_max else await self._run_in(self._threads, work)

    async def compile(self, work: Callable[[], Result]) -> Result:
        """What `work` makes of a grammar: in a thread of its own, where a bomb delays grammars only. Overloaded."""
        return await self._run_in(self._compiler, work)

    async def _run_in(self, threads: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
        if self._waiting >= self._limits.encode_waiting_max:
            raise Overloaded("too many long prompts or grammars are being read", retry_after_s=1.0)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, work)
        finally:
            self._waiting -= 1
