"""A channel with both its ends and bells in one process, and words to say on it."""

import contextlib
import math
import os
from array import array
from collections.abc import Iterator

import pytest

from aruntime.queue.channel import EngineChannel, FrontEndChannel, create_bell, create_channel


class Line:
    """Both ends; `rings(bell)` counts and clears what a bell has been rung."""

    def __init__(
        self, submit_cells: int = 64, output_records: int = 16, epoch: int = 7, result_cells: int = 16
    ) -> None:
        self.epoch = epoch
        self.file, self.engine_bell, self.front_end_bell = (
            create_channel(epoch, submit_cells, output_records, result_cells),
            create_bell(),
            create_bell(),
        )
        self.front_end = FrontEndChannel(self.file, self.engine_bell, epoch)
        self.engine = EngineChannel(self.file, self.front_end_bell, epoch)

    def submit(self, **changes: object) -> bool:
        return self.front_end.try_submit(**{**WORDS, **changes})  # type: ignore[arg-type]

    def rings(self, bell: int) -> int:
        with contextlib.suppress(BlockingIOError):
            return os.eventfd_read(bell)
        return 0

    def close(self) -> None:
        self.front_end.close()
        for fd in (self.file, self.engine_bell, self.front_end_bell):
            os.close(fd)


WORDS: dict[str, object] = {
    "slot": 3,
    "generation": 9,
    "arrived_s": 1.5,
    "deadline_s": math.inf,
    "prompt": array("i", [5, 6, 7]),
    "max_tokens": 8,
    "min_tokens": 0,
    "tenant": 0,
    "priority": 1,
    "attempt": 1,
    "stop_token_ids": (),
    "request_id": b"r-1",
    "temperature": 1.0,
    "top_p": 1.0,
    "min_p": 0.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
    "top_k": 0,
    "ignore_eos": False,
    "seed": 0,
    "payload": b"",
}


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.close()
