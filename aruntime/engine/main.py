"""The process of one engine: `python -m aruntime.engine.main --control-fd N`, started by a launcher.

    Load ──► load the version    ──► Loaded ──► warm ──► Ready ──► loop: Set…, Attach…, DetachFrontEnd, Stop
                  └─ CheckpointRefused ──► Failed, exit 1

It ends when it is told to, or when the supervisor is gone (end of file on the control socket).
"""

import argparse
import gc
import signal
import sys
import time
from typing import Protocol

from aruntime.base import log
from aruntime.engine.loop import EngineBroken, Loop
from aruntime.model.config import CheckpointRefused
from aruntime.queue.channel import EngineChannel
from aruntime.queue.post import Letter, Post
from aruntime.wire import control
from aruntime.wire.compatibility import Compatibility


class Replica(Protocol):
    """A loaded model version; `Loaded` says what its numbers mean."""

    @property
    def loop(self) -> Loop: ...
    @property
    def context_max(self) -> int: ...
    @property
    def vocab(self) -> int: ...
    @property
    def blocks(self) -> int: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def target(self) -> str: ...
    @property
    def precision(self) -> control.Dtype: ...
    @property
    def key(self) -> Compatibility: ...
    @property
    def inputs(self) -> list[control.TensorSpec]: ...
    @property
    def outputs(self) -> list[control.TensorSpec]: ...
    def warm(self) -> None: ...


def load(order: control.Load, table: int, bell: int) -> Replica:
    """Load `order` with its engine. Each brings libraries that take a second to import: only the one asked for is."""
    if order.engine == "onnx":
        from aruntime.engine.tensor_replica import load_tensors

        return load_tensors(order, table, bell)
    from aruntime.engine.replica import load_decoder_replica

    return load_decoder_replica(order, table, bell)


class Engine:
    """Does what the supervisor says, between steps and before them."""

    def __init__(self, post: Post) -> None:
        self._post = post

    def serve(self) -> None:
        """Load, warm, say so, and serve until told to end."""
        letter = self._post.receive()
        if letter is None:
            return
        order = control.decode(letter.data, len(letter.fds))
        if not isinstance(order, control.Load):
            raise ValueError(f"want load first, got {order.kind}")
        table, bell = letter.fds
        started_s = time.monotonic()
        gc.disable()  # what is imported and loaded stays: looking for garbage in it is a tenth of the start
        replica = load(order, table, bell)
        self._loop = replica.loop
        self._tell(
            control.Loaded(
                context_max=replica.context_max,
                vocab=replica.vocab,
                blocks=replica.blocks,
                weight_bytes=replica.weight_bytes,
                seconds=time.monotonic() - started_s,
                target=replica.target,
                precision=replica.precision,
                inputs=replica.inputs,
                outputs=replica.outputs,
                key=replica.key,
            )
        )
        replica.warm()
        gc.freeze()  # nor is it looked through between steps, or at the end
        gc.enable()
        self._tell(control.Ready())
        self._loop.run(self._post.fileno(), self._on_control)

    def _on_control(self) -> None:
        """Obey what has arrived; called once a turn of the loop."""
        while not self._loop.stop:
            try:
                letter = self._post.try_receive()
            except BlockingIOError:
                break
            if letter is None:
                self._loop.stop = True
                return
            self._obey(letter)

    def _obey(self, letter: Letter) -> None:
        match control.decode(letter.data, len(letter.fds)):
            case control.AttachFrontEnd(front_end=front_end, epoch=epoch):
                channel, bell = letter.fds
                self._loop.exchange.attach(front_end, EngineChannel(channel, bell, epoch))
                letter.discard()  # the channel has mapped the one and duplicated the other
            case control.DetachFrontEnd(front_end=front_end):
                self._loop.exchange.detach(front_end)
            case control.SetTerms(tenants=tenants):
                for terms in tenants:
                    self._loop.set_tenant(terms)
            case control.SetBounds(bounds=bounds):
                self._loop.set_bounds(bounds)
            case control.Stop():
                self._loop.stop = True
            case other:
                letter.discard()
                raise ValueError(f"an engine does not take {other.kind}")

    def _tell(self, message: control.Message) -> None:
        self._post.send(control.encode(message))


def main() -> int:
    """Run the engine; the exit status says how it ended: 0 told to, 1 refused the checkpoint, 2 broke."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--log-level", default="info")
    options = parser.parse_args()
    log.configure(options.log_level)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's interrupt is the supervisor's to handle
    post = Post.from_fd(options.control_fd)
    try:
        Engine(post).serve()
    except CheckpointRefused as error:
        log.error("engine.refused", reason=str(error))
        post.send(control.encode(control.Failed(reason=str(error)[:2000])))
        return 1
    except EngineBroken as error:
        log.error("engine.broken", reason=str(error))
        return 2
    except BrokenPipeError:
        return 0  # the supervisor is gone
    return 0


if __name__ == "__main__":
    sys.exit(main())
