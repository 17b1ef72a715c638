"""Front ends to be killed: each submits and cancels as fast as it can, through the real face.

    python queue_victim.py

Reads lines `FILE ENGINE_BELL EPOCH`; for each begins a process, prints its id, and prints it again when
it has been killed.
"""

import os
import sys
from array import array

from queue_line import WORDS

from aruntime.queue.channel import FrontEndChannel


def prompt_of(number: int) -> "array[int]":
    """1 to 100 tokens, all of them the number of the message."""
    return array("i", [number]) * (1 + number * 37 % 100)


def talk(file: int, engine_bell: int, epoch: int) -> None:
    """Submit 0, 1, 2 ... without end, every third followed by its cancel."""
    channel = FrontEndChannel(file, engine_bell, epoch)
    number = 0
    while True:
        words = {**WORDS, "slot": number, "generation": ~number & 0xFFFFFFFF, "prompt": prompt_of(number)}
        if channel.try_submit(**words):  # type: ignore[arg-type]
            while number % 3 == 0 and not channel.try_cancel(number, ~number & 0xFFFFFFFF):
                pass
            number += 1


def main() -> None:
    for line in sys.stdin:
        victim = os.fork()
        if victim == 0:
            talk(*map(int, line.split()))
        print(victim, flush=True)
        os.waitpid(victim, 0)
        print(victim, flush=True)


if __name__ == "__main__":
    main()
