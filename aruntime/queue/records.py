"""The enumerations and sizes of csrc/queue/records.hpp, for Python. A test holds the two together."""

from enum import IntEnum

CELL_BYTES = 64


class FinishReason(IntEnum):
    """How a sequence ended; NONE while it goes on."""

    NONE = 0
    STOP = 1
    LENGTH = 2
    CANCELLED = 3
    DEADLINE = 4
    MODEL_ERROR = 5
    OVERLOADED = 6
    INVALID = 7
    DRAINING = 8
    GRAMMAR = 9


class RecordKind(IntEnum):
    """What a record of the output ring tells of. Alternatives stand before the token that they are for."""

    TOKEN = 0
    ALTERNATIVE = 1
    PROMPT_TOKEN = 2


class Priority(IntEnum):
    """A request's class; lower goes first."""

    INTERACTIVE = 0
    STANDARD = 1
    BATCH = 2


class Pooling(IntEnum):
    """What is wanted of a prompt instead of an answer: one vector, of all its tokens' states or of the last one's."""

    NONE = 0
    MEAN = 1
    LAST = 2


def submit_cells(prompt_tokens: int, payload_bytes: int = 0) -> int:
    """Cells of the submit ring that a request with such a prompt and payload takes."""
    return 5 + -(-prompt_tokens // 16) + -(-payload_bytes // CELL_BYTES)
