"""From tokens to text: what one request's choices have said, cut at stop strings, counted for usage."""

from aruntime.admission.ticket import Output
from aruntime.http.stops import StopText
from aruntime.model.tokenizer import Tokenizer
from aruntime.queue.records import FinishReason

_REASONS = {FinishReason.STOP: "stop", FinishReason.LENGTH: "length"}


class Choice:
    """One choice of a request. `finish_reason` is empty while it goes on."""

    def __init__(self, tokenizer: Tokenizer, stops: tuple[str, ...]) -> None:
        self._detokenizer = tokenizer.detokenizer()
        self._stop = StopText(stops)
        self.tokens = 0
        self.finish_reason = ""

    @property
    def stopped(self) -> bool:
        """Whether a stop string ended it, which the engine has not been told."""
        return self._stop.found

    def take(self, output: Output) -> str:
        """The text that `output` adds, without a piece of a character or of a stop string."""
        text = self._push(output.token_ids)
        if output.finish is not FinishReason.NONE and not self._stop.found:
            text += self._stop.push(self._detokenizer.finish())
            if not self._stop.found:
                text += self._stop.finish()
        if self._stop.found:
            self.finish_reason = "stop"
        elif output.finish is not FinishReason.NONE:
            self.finish_reason = _REASONS[output.finish]
        return text

    def _push(self, token_ids: list[int]) -> str:
        text = ""
        for token in token_ids:
            if self._stop.found:
                break
            self.tokens += 1
            text += self._stop.push(self._detokenizer.push(token))
        return text
