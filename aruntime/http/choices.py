"""From tokens to what one choice of a request says: detokenized, cut at stop strings, told apart, counted for usage."""

from array import array
from collections.abc import Iterator, Sequence

from aruntime.admission.ask import Ask
from aruntime.admission.ticket import Output
from aruntime.http.asks import Question
from aruntime.http.scores import Scorer
from aruntime.http.stops import StopText
from aruntime.model.detokenizer import Detokenizer
from aruntime.model.speech.listening import listen
from aruntime.model.tokenizer import Tokenizer
from aruntime.queue.records import FinishReason
from aruntime.wire.said import Call, Chosen, Finish, Listener, Part, Reasoning, Said, Text

_REASONS = {FinishReason.STOP: "stop", FinishReason.LENGTH: "length"}


class Choice:
    """One choice of a request. `finish` is None while it goes on; `listener` tells calls and thoughts from its text.

    Its first `min_tokens` tokens cannot stop it, as in vLLM: a stop string is looked for in what comes after them, and
    in its text only: a thought or a call may hold one. The prompt that it is to `echo` comes before them. `scorer`, if
    there is one, is its detokenizer. One that is `silent` says nothing of its own.
    """

    def __init__(
        self,
        detokenizer: Detokenizer,
        stops: StopText,
        min_tokens: int = 0,
        listener: Listener | None = None,
        *,
        scorer: Scorer | None = None,
        echo: Sequence[int] = (),
        silent: bool = False,
    ) -> None:
        self._detokenizer = detokenizer
        self._stop = stops
        self._min_tokens = min_tokens
        self._listener = listener
        self._scorer = scorer
        self._echo = echo
        self._silent = silent
        self._called = False
        self._thinks = False
        self.tokens = 0
        self.cached_tokens = 0
        self.reasoning_tokens = 0
        self.finish: Finish | None = None

    def take(self, output: Output) -> Said:
        """What `output` adds, without a piece of a character, of a stop string or of what opens a call."""
        self.cached_tokens = max(self.cached_tokens, output.cached_tokens)
        if self._listener is not None:
            return self._hear(self._listener, output)
        text = self._echoed() if self._echo else ""
        if not self._silent:
            text += "".join([self._push(token) for token in output.token_ids])
        if output.finish is not FinishReason.NONE and not self.stopped:
            text += self._stop.push(self._detokenizer.finish())
            self.finish = Finish("stop", self._stop.found) if self.stopped else Finish(_REASONS[output.finish])
            text += self._stop.finish()
        return Said([Text(text)] if text else [], self._scored(output))

    @property
    def stopped(self) -> bool:
        """Whether a stop string ended it, or a call after which there is none, of which the engine knows nothing."""
        return bool(self._stop.found) or (self._listener is not None and self._listener.over)

    def _echoed(self) -> str:
        echo, self._echo = self._echo, ()
        return "".join([self._detokenizer.push(token) for token in echo])

    def _push(self, token: int) -> str:
        if self._stop.found:
            return ""
        self.tokens += 1
        text = self._detokenizer.push(token)
        if self.tokens > self._min_tokens:
            text = self._stop.push(text)
        if self._stop.found:
            self.finish = Finish("stop", self._stop.found)
        return text

    def _hear(self, listener: Listener, output: Output) -> Said:
        parts: list[Part] = []
        for token in output.token_ids:
            if not self.stopped:
                self.tokens += 1
                new = listener.push(self._detokenizer.push(token))
                self._thinks = isinstance(new[-1], Reasoning) if new else self._thinks
                self.reasoning_tokens += self._thinks
                parts += self._cut(new)
        if output.finish is not FinishReason.NONE and not self.stopped:
            parts += self._cut([*listener.push(self._detokenizer.finish()), *listener.finish()])
            self.finish = Finish(_REASONS[output.finish])
        if self.stopped:
            self.finish = Finish("stop", self._stop.found)
        if self.finish is not None:
            parts += self._held()
            if self._called and self.finish.reason == "stop":
                self.finish.reason = "tool_calls"
        return Said(parts, self._scored(output))

    def _scored(self, output: Output) -> list[Chosen]:
        return self._scorer.told(output, self._stop.held, self.finish) if self._scorer is not None else []

    def _cut(self, said: Sequence[Part]) -> Iterator[Part]:
        """What of these parts comes before a stop string."""
        for part in said:
            if self._stop.found:
                return
            if not isinstance(part, Text):
                self._called = self._called or isinstance(part, Call)
                yield from self._held()
                yield part
            elif text := self._stop.push(part.text) if self.tokens > self._min_tokens else part.text:
                yield Text(text)

    def _held(self) -> list[Part]:
        """What was no stop string after all."""
        text = self._stop.finish()
        return [Text(text)] if text else []


def choice_of(question: Question, tokenizer: Tokenizer, prompt: "array[int]", ask: Ask, opens_thought: bool) -> Choice:
    """What takes in one choice's tokens. In a conversation it has a listener, if there is something to tell apart."""
    listener = None
    if question.conversation is not None:
        constrained = bool(ask.sampling.grammar)
        listener = listen(tokenizer.speech, question.conversation, opens_thought=opens_thought, constrained=constrained)
    marks = listener is not None
    begins = question.conversation is not None or question.echo
    scorer = None
    if question.logprobs is not None:
        scorer = Scorer(tokenizer, prompt=question.echo, marks=marks, begins=begins)
    return Choice(
        scorer or tokenizer.detokenizer(marks=marks, begins=begins),
        StopText(question.fields.stops, shown=bool(question.fields.include_stop_str_in_output)),
        ask.sampling.min_tokens,
        listener,
        scorer=scorer,
        echo=prompt if question.echo else (),
        silent=question.max_tokens == 0,
    )
