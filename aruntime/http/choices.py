"""From tokens to text: what one request's choices have said, cut at stop strings, counted for usage."""

from aruntime.admission.ticket import Output
from aruntime.http.stops import StopText
from aruntime.model.detokenizer import Detokenizer
from aruntime.queue.records import FinishReason

_REASONS = {FinishReason.STOP: "stop", FinishReason.LENGTH: "length"}


class Choice:
    """One choice of a request. `finish_reason` is empty while it goes on.

    Its first `min_tokens` tokens cannot stop it, as in vLLM: a stop string is looked for in what comes after them.
    """

    def __init__(self, detokenizer: Detokenizer, stops: tuple[str, ...], min_tokens: int = 0) -> None:
        self._detokenizer = detokenizer
        self._stop = StopText(stops)
        self._min_tokens = min_tokens
        self.tokens = 0
        self.cached_tokens = 0
        self.finish_reason = ""

    def take(self, output: Output) -> str:
        """The text that `output` adds, without a piece of a character or of a stop string."""
        self.cached_tokens = max(self.cached_tokens, output.cached_tokens)
        text = "".join([self._push(token) for token in output.token_ids])
        if output.finish is not FinishReason.NONE and not self.stopped:
            text += self._stop.push(self._detokenizer.finish())
            self.finish_reason = "stop" if self.stopped else _REASONS[output.finish]
            text += self._stop.finish()
        return text

    @property
    def stopped(self) -> bool:
        """Whether a stop string ended it, of which the engine knows nothing."""
        return self._stop.found

    def _push(self, token: int) -> str:
        if self._stop.found:
            return ""
        self.tokens += 1
        text = self._detokenizer.push(token)
        if self.tokens > self._min_tokens:
            text = self._stop.push(text)
        if self._stop.found:
            self.finish_reason = "stop"
        return text
