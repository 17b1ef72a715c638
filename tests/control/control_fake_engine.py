"""An engine without a model, over the real rings: each turn it sends one token, `index`, to every sequence.

The model's name says how it behaves: `refused` cannot be served, `short-lived` dies while it loads, all others work.
A sequence whose first prompt token is 9 has no end. A tenant's weight stands in its column SERVED, `itl_s` in STEP_US.
"""

import argparse
import os
import select
import sys
import time
from pathlib import Path

from aruntime.model.identity import tokenizer_of, weights_of
from aruntime.queue.channel import EngineChannel
from aruntime.queue.columns import ENGINE_ROW, Column, TenantColumn, tenant_column
from aruntime.queue.post import Post
from aruntime.queue.records import FinishReason
from aruntime.queue.table import Table
from aruntime.wire import control
from aruntime.wire.compatibility import Compatibility

Key = tuple[int, int, int]  # front end, slot, generation


class FakeEngine:
    def __init__(self, post: Post) -> None:
        self.post = post
        letter = post.receive()
        assert letter is not None
        order = control.decode(letter.data, len(letter.fds))
        assert isinstance(order, control.Load)
        self.order = order
        self.table, self.bell = Table(letter.fds[0]), letter.fds[1]
        self.table.set(ENGINE_ROW, Column.STEP_US, int(order.bounds.itl_s * 1e6))
        self.channels: dict[int, EngineChannel] = {}
        self.left: dict[Key, list[int]] = {}  # [tokens sent, tokens wanted]
        self.stop = False

    def tell(self, message: control.Message) -> None:
        self.post.send(control.encode(message))

    def key(self) -> Compatibility:
        folder = Path(self.order.folder)
        return Compatibility(weights=weights_of(folder), tokenizer=tokenizer_of(folder))

    def run(self) -> None:
        if self.order.model == "short-lived":
            os._exit(3)
        if self.order.model == "refused":
            self.tell(control.Failed(reason="no such architecture"))
            sys.exit(1)
        self.tell(control.Loaded(context_max=64, vocab=100, blocks=8, weight_bytes=1, seconds=0.1, key=self.key()))
        self.tell(control.Ready())
        poller = select.poll()
        poller.register(self.post.fileno(), select.POLLIN)
        while not self.stop:
            poller.poll(5)
            self.obey()
            self.receive()
            self.step()
            self.table.set(ENGINE_ROW, Column.HEARTBEAT_US, int(time.monotonic() * 1e6))
            self.table.set(ENGINE_ROW, Column.RUNNING, len(self.left))

    def obey(self) -> None:
        try:
            letter = self.post.try_receive()
        except BlockingIOError:
            return
        if letter is None:
            self.stop = True
            return
        match control.decode(letter.data, len(letter.fds)):
            case control.SetTerms(tenants=tenants):
                for terms in tenants:
                    served = tenant_column(terms.index, TenantColumn.SERVED)
                    self.table.set(ENGINE_ROW, served, int(terms.weight))
            case control.SetBounds(bounds=bounds):
                self.table.set(ENGINE_ROW, Column.STEP_US, int(bounds.itl_s * 1e6))
            case control.AttachFrontEnd(front_end=front_end, epoch=epoch):
                self.channels[front_end] = EngineChannel(*letter.fds, epoch)
                letter.discard()
            case control.DetachFrontEnd(front_end=front_end):
                self.channels.pop(front_end, None)
                self.left = {key: left for key, left in self.left.items() if key[0] != front_end}
            case control.Stop():
                self.stop = True

    def receive(self) -> None:
        for front_end, channel in self.channels.items():
            while (message := channel.receive()) is not None:
                self.take(front_end, message)

    def take(self, front_end: int, message: tuple[object, ...]) -> None:
        kind, slot, generation, *rest = message
        assert isinstance(slot, int)
        assert isinstance(generation, int)
        key = (front_end, slot, generation)
        if kind == "submit":
            prompt, head = rest
            assert isinstance(prompt, list)
            assert isinstance(head, dict)
            self.left[key] = [0, 1 << 30 if prompt[0] == 9 else head["max_tokens"]]
        elif self.left.pop(key, None) is not None:
            self.send(key, -1, 0, FinishReason.CANCELLED)

    def step(self) -> None:
        for key, state in list(self.left.items()):
            state[0] += 1
            finish = FinishReason.LENGTH if state[0] >= state[1] else FinishReason.NONE
            self.send(key, state[0] - 1, state[0] - 1, finish)
            if finish:
                del self.left[key]

    def send(self, key: Key, token: int, index: int, finish: FinishReason) -> None:
        front_end, slot, generation = key
        self.channels[front_end].send([(slot, generation, token, index, int(finish), 0, 0.0)])
        self.channels[front_end].ring_bell()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--control-fd", type=int)
    FakeEngine(Post.from_fd(parser.parse_args().control_fd)).run()
