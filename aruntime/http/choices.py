"""From tokens to what one choice of a request says: detokenized, cut at stop strings, told apart, counted for usage."""

from collections.abc import Sequence

from aruntime.admission.ticket import Output
from aruntime.http.scores import Scorer
from aruntime.http.stops import StopText
from aruntime.model.detokenizer import Detokenizer
from aruntime.queue.records import FinishReason
from aruntime.wire.said import Call, Finish, Listener, Part, Said, Text

_REASONS = {FinishReason.STOP: "stop", FinishReason.LENGTH: "length"}


class Choice:
    """One choice of a request. `finish` is None while it goes on; `listener` tells calls and thoughts from its text.

    Its first `min_tokens` tokens cannot stop it, as in vLLM: a stop string is looked for in what comes after them.
    The prompt that it is to `echo` comes before them. `scorer`, if there is one, is its detokenizer. One that is
    `silent` says nothing of its own.
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
        self.tokens = 0
        self.cached_tokens = 0
        self.finish: Finish | None = None

    def take(self, output: Output) -> Said:
        """What `output` adds, without a piece of a character, of a stop string or of what opens a call."""
        self.cached_tokens = max(self.cached_tokens, output.cached_tokens)
        text = self._echoed() if self._echo else ""
        if not self._silent:
            text += "".join([self._push(token) for token in output.token_ids])
        if output.finish is not FinishReason.NONE and not self.stopped:
            text += self._stop.push(self._detokenizer.finish())
            self.finish = Finish("stop", self._stop.found) if self.stopped else Finish(_REASONS[output.finish])
            text += self._stop.finish()
        tokens = self._scorer.told(output, text, self.finish) if self._scorer is not None else []
        return Said(self._parts(text), tokens)

    @property
    def stopped(self) -> bool:
        """Whether a stop string ended it, of which the engine knows nothing."""
        return bool(self._stop.found)

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

    def _parts(self, text: str) -> list[Part]:
        if self._listener is None:
            return [Text(text)] if text else []
        parts = list(self._listener.push(text)) if text else []
        if self.finish is not None:
            parts += self._listener.finish()
        self._called = self._called or any(isinstance(part, Call) for part in parts)
        if self.finish is not None and self.finish.reason == "stop" and self._called:
            self.finish.reason = "tool_calls"
        return parts
