"""The engine's process with a tensor model: loads, warms, answers, leaves; and does not load what decoders need."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from engine_tensors import WEIGHT, matmul, order, tensor

from aruntime.engine.tensor_session import to_array
from aruntime.queue.channel import FrontEndChannel, create_bell, create_channel
from aruntime.queue.columns import COLUMNS, TABLE_ROWS
from aruntime.queue.post import Post, pair
from aruntime.queue.records import FinishReason
from aruntime.queue.table import create_table
from aruntime.wire import control
from aruntime.wire.tensors import decode, encode


def told(post: Post) -> control.Message:
    letter = post.receive()
    assert letter is not None
    return control.decode(letter.data, len(letter.fds))


def test_a_tensor_engine_loads_answers_and_leaves_without_torch(tmp_path: Path) -> None:
    mine, theirs = pair()
    command = [
        sys.executable,
        "-m",
        "aruntime.engine.main",
        "--control-fd",
        str(theirs.fileno()),
        "--log-level",
        "error",
    ]
    fds = table, bell, channel, front_bell = [
        create_table(TABLE_ROWS, COLUMNS), create_bell(), create_channel(1, 256, 16, 64), create_bell(),
    ]  # fmt: skip
    with subprocess.Popen(command, pass_fds=[theirs.fileno()]) as engine:
        theirs.close()
        try:
            mine.send(control.encode(order(matmul(tmp_path))), [table, bell])
            loaded = told(mine)
            assert isinstance(loaded, control.Loaded)
            assert (loaded.context_max, loaded.inputs[0].shape, loaded.outputs[0].datatype) == (9, [-1, 3], "FP32")
            assert told(mine).kind == "ready"
            assert "libtorch" not in Path(f"/proc/{engine.pid}/maps").read_text()
            mine.send(control.encode(control.AttachFrontEnd(front_end=1, epoch=1)), [channel, front_bell])
            front = FrontEndChannel(channel, bell, 1)
            inputs = np.ones((2, 3), np.float32)
            assert front.try_submit(
                slot=0, generation=1, arrived_s=0, deadline_s=float("inf"), prompt=np.zeros(2, np.int32), max_tokens=1,
                min_tokens=0, tenant=0, priority=1, attempt=1, stop_token_ids=(), request_id=b"r", temperature=1,
                top_p=1, min_p=0, presence_penalty=0, frequency_penalty=0, repetition_penalty=1, top_k=0,
                ignore_eos=False, seed=0, payload=encode([tensor("x", inputs)]),
            )  # fmt: skip
            deadline = time.monotonic() + 10
            while not (records := front.take()):
                assert time.monotonic() < deadline
                time.sleep(0.002)
            assert records[0][4] == FinishReason.LENGTH
            [(slot, generation, result)] = front.take_results()
            assert (slot, generation) == (0, 1)
            assert np.allclose(to_array(decode(result)[0]), inputs @ WEIGHT)
            mine.send(control.encode(control.Stop()))
            assert engine.wait(10) == 0
        finally:
            engine.kill()
    for fd in fds:
        os.close(fd)
    mine.close()
