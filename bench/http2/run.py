"""What a streamed event costs a server over HTTP/2, beside other servers; and what a token costs aruntime's front end.

    python bench/http2/run.py                                       ten minutes; writes bench/results/http2.md
    python bench/http2/run.py --parts real                          one part, or some: servers posts real; printed
    python bench/http2/run.py --repeats 1 --window-s 0.5            a look, printed

The server has one core and the client another; 256 streams, each an event of 200 bytes every 20 ms. The cost is the
processor time of all processes of the server, in the program and the kernel, over the events that the client counted
meanwhile. Servers take turns; the median of the repeats is told, with the least and the most. A stream that is not
byte for byte what was sent ends the run.
"""

import argparse
import contextlib
import os
import ssl
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent))

import parts
from page import page
from parts import PARTS, Bench, Found
from quick import ROOT, machine
from servers import Certificate

RESULTS = ROOT / "bench/results/http2.md"
REPEATS, WINDOW_S = 3, 1.2


def measure(names: Sequence[str], repeats: int, window_s: float) -> Found:
    """Run these parts."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("the server and the client need a core each")
    os.sched_setaffinity(0, {cores[1]})
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        certificate = Certificate.made_in(Path(folder))
        trust = ssl.create_default_context(cafile=str(certificate.certfile))
        trust.set_alpn_protocols(["h2"])
        bench = Bench(stack, certificate, trust, cores[0], repeats, window_s)
        for name in names:
            uvloop.run(PARTS[name](bench))
        return bench.found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--window-s", type=float, default=WINDOW_S, help="how long one measurement takes")
    options = parser.parse_args()
    name = machine()  # before this process is given one core
    whole = (options.parts, options.repeats, options.window_s) == (list(PARTS), REPEATS, WINDOW_S)
    text = page(measure(options.parts, options.repeats, options.window_s), name, parts.versions())
    print(text)
    if whole:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
