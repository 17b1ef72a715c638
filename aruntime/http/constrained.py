"""What an answer is held to: a grammar of its own, calls of tools, or both.

It is compiled here, beside the event loop, for the sake of refusing it in time; the engine compiles its own.
"""

from aruntime.base.errors import InvalidRequest
from aruntime.http.encoder import Encoder
from aruntime.model.grammar import GrammarRefused, check
from aruntime.model.speech.constraint import constraint
from aruntime.model.tokenizer import Tokenizer
from aruntime.queue.steering import GRAMMAR_BYTES_MAX
from aruntime.wire.conversation import Conversation, ToolChoice
from aruntime.wire.grammars import Constraint


async def grammar_of(
    encoder: Encoder,
    tokenizer: Tokenizer,
    conversation: Conversation | None,
    wanted: Constraint | None,
    *,
    opens_thought: bool,
) -> str:
    """The grammar that an answer obeys; "" when it may be anything.

    InvalidRequest: it cannot be compiled, costs too much, or nothing satisfies it; it names the field that it is of.
    """
    answer = wanted.grammar if wanted is not None else ""
    field = wanted.field if wanted is not None else "tools"
    if wanted is not None:
        await _check(encoder, answer, field)
    if conversation is None:
        return answer
    grammar = constraint(tokenizer.speech, conversation, answer, opens_thought=opens_thought)
    if grammar and grammar != answer:
        try:
            await _check(encoder, grammar, "tools")
        except InvalidRequest:
            await _blame(encoder, tokenizer, conversation)
            raise
    return grammar


async def _check(encoder: Encoder, grammar: str, field: str) -> None:
    if (size := len(grammar.encode())) > GRAMMAR_BYTES_MAX:
        raise InvalidRequest(f"{field}: a grammar of {size} bytes, at most {GRAMMAR_BYTES_MAX}", param=field)
    try:
        await encoder.compile(lambda: check(grammar))
    except GrammarRefused as error:
        raise InvalidRequest(f"{field}: {error}", param=field) from None


async def _blame(encoder: Encoder, tokenizer: Tokenizer, conversation: Conversation) -> None:
    """Refuse the first tool that alone is too much, by its place."""
    for place, tool in enumerate(conversation.tools):
        alone = Conversation([], [tool], ToolChoice("required"))
        await _check(encoder, constraint(tokenizer.speech, alone), f"tools.{place}")
