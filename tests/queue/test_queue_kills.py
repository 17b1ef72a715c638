"""kill -9 of a front end that speaks through the real face; `cpp/kills.cpp` does it at every single instruction."""

import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE

from queue_line import Line
from queue_victim import prompt_of

KILLS = 60
SUBMITS_ALIVE_MAX_S = 10.0


def hear(line: Line, heard: int, most: float = math.inf) -> int:
    """Read what there is after `heard` messages, `most` at most; each is the next, whole. Returns how many are heard.

    Of one who talks faster than it is heard there is always more.
    """
    while heard < most and (message := line.engine.receive()) is not None:
        number, turn = divmod(heard, 4)  # submits 3k, 3k + 1, 3k + 2, with the cancel of 3k behind the first
        slot = 3 * number + (0, 0, 1, 2)[turn]
        assert message[1:3] == (slot, ~slot & 0xFFFFFFFF)
        assert message[0] == ("cancel" if turn == 1 else "submit")
        if message[0] == "submit":
            assert message[3] == list(prompt_of(slot))
        heard += 1
    return heard


def kill_one(line: Line, nursery: "subprocess.Popen[str]", chance: random.Random) -> int:
    """Let a front end talk for a while, kill it, and read the rest. Returns how many messages it was heard to say."""
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    nursery.stdin.write(f"{line.file} {line.engine_bell} {line.epoch}\n")
    nursery.stdin.flush()
    victim = int(nursery.stdout.readline())
    heard, enough, begun_s = 0, chance.randrange(200), time.monotonic()
    try:
        while heard <= enough:
            heard = hear(line, heard, enough + 1)
            assert time.monotonic() - begun_s < SUBMITS_ALIVE_MAX_S
        time.sleep(chance.random() * 0.001)
    finally:
        os.kill(victim, signal.SIGKILL)
    assert int(nursery.stdout.readline()) == victim
    heard = hear(line, heard)
    assert line.engine.refused == 0
    assert line.engine.prepare_sleep()
    return heard


def test_a_killed_front_end_leaves_whole_messages_and_its_successor_begins_anew() -> None:
    chance = random.Random(1)
    lines = [Line(submit_cells=256, epoch=epoch) for epoch in range(KILLS)]
    fds = [fd for line in lines for fd in (line.file, line.engine_bell)]
    command = [sys.executable, str(Path(__file__).with_name("queue_victim.py"))]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, pass_fds=fds, text=True) as nursery:
        heard = sum(kill_one(line, nursery, chance) for line in lines)
    assert nursery.returncode == 0
    for line in lines:
        line.close()
    print(f"{KILLS} kills, {heard} messages heard")
    assert heard > 50 * KILLS
