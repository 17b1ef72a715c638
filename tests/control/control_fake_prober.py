"""A prober that asks nothing. The version's file `probe.txt` says how it behaves:

passes (also without the file) · wrong · wrong-early, passes-early: unasked · dies, dies-once · waits for ever
"""

import argparse
import os
import select
from pathlib import Path

from aruntime.queue.post import Post
from aruntime.wire.control import Prepared, Probed, encode


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--control-fd", type=int)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    post = Post.from_fd(options.control_fd)
    file = options.folder / "probe.txt"
    how = file.read_text() if file.exists() else "passes"
    if how == "wrong-early":
        post.send(encode(Probed(passed=False, wrong=True, reason="another tokenizer")))
        return
    if how == "passes-early":
        post.send(encode(Probed(passed=True, questions=1)))
        return
    post.send(encode(Prepared()))
    if post.receive() is None:
        return
    if how == "dies-once":
        file.write_text("passes")
    if how.startswith("dies"):
        os.kill(os.getpid(), 9)
    if how == "waits":
        select.poll().poll()
    wrong = how == "wrong"
    post.send(
        encode(Probed(passed=not wrong, wrong=wrong, questions=1, reason="token 3 is 5, want 4" if wrong else ""))
    )


if __name__ == "__main__":
    main()
