"""How likely each token was that a choice says, beside its text.

tokens        "so"  " it"  " E"  "ND"      logprobs, and the likeliest tokens at each place
where begun    0     2      5     7        stop string "END": "so it " is shown, so the third is told and the fourth not

A token is told with the text that it begins. So what is held back, because it may become a stop string or the rest of a
character, holds its tokens back; and a stop string that is cut off takes with it the tokens that lie in it whole.
"""

from collections import deque
from collections.abc import Iterator

from aruntime.admission.ticket import Output
from aruntime.model.tokenizer import Tokenizer
from aruntime.wire.said import Chosen, Finish, Likely

Score = tuple[float | None, list[tuple[int, float]]]


class Scorer:
    """The detokenizer of a choice whose logprobs are wanted: it keeps the tokens, with where in the text they begin.

    With `prompt` the prompt's tokens are pushed first, and the first output has what foretold them. With `marks` those
    of calls and thoughts have a text.
    """

    def __init__(self, tokenizer: Tokenizer, *, prompt: bool = False, marks: bool = False, begins: bool = True) -> None:
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._detokenizer = tokenizer.detokenizer(marks=marks, begins=begins)
        self._certain = 0  # characters that the tokens so far have made
        self._begun: list[tuple[int, int]] = []  # tokens without a score, and where each begins
        self._waiting: deque[Chosen] = deque()

    def push(self, token_id: int) -> str:
        """As a detokenizer does."""
        self._begun.append((token_id, self._certain))
        text = self._detokenizer.push(token_id)
        self._certain += len(text)
        return text

    def finish(self) -> str:
        """As a detokenizer does."""
        text = self._detokenizer.finish()
        self._certain += len(text)
        return text

    def told(self, output: Output, held: int, finish: Finish | None) -> list[Chosen]:
        """The tokens to be told after `output`, when the last `held` characters are not shown."""
        shown = self._certain - held
        self._waiting += [
            self._chosen(*at, *score) for at, score in zip(self._begun, self._scores(output), strict=False)
        ]
        self._begun.clear()
        everything = finish is not None and not finish.stop
        told: list[Chosen] = []
        while self._waiting and (everything or self._waiting[0].offset < shown):
            told.append(self._waiting.popleft())
        return told

    def _scores(self, output: Output) -> Iterator[Score]:
        if self._prompt:
            self._prompt = False
            yield None, []  # nothing foretells the first token
            for scored in output.prompt:
                yield scored.logprob, scored.alternatives
        yield from zip(output.logprobs, output.alternatives, strict=True)

    def _chosen(self, token: int, offset: int, logprob: float | None, alternatives: list[tuple[int, float]]) -> Chosen:
        top = tuple(Likely(*self._spelled(token), logprob) for token, logprob in alternatives)
        return Chosen(*self._spelled(token), logprob, offset, top)

    def _spelled(self, token: int) -> tuple[str, bytes]:
        data = self._tokenizer.spell(token)
        return data.decode(errors="replace"), data
