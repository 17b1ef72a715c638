"""Serves bench/http2/app.py with Hypercorn on uvloop: with this project's HTTP/2, or with its own.

python bench/http2/front.py PORT [--stock] [--certfile F --keyfile F]
"""

import argparse
import asyncio

import uvloop
from app import app
from hypercorn.asyncio import serve
from hypercorn.config import Config

from aruntime.h2 import server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("--stock", action="store_true")
    parser.add_argument("--certfile")
    parser.add_argument("--keyfile")
    options = parser.parse_args()
    config, application = Config(), app  # type: Config, Any
    config.bind = [f"127.0.0.1:{options.port}"]
    config.loglevel = "WARNING"
    config.certfile, config.keyfile = options.certfile, options.keyfile
    config.keep_alive_timeout = 600.0
    config.keep_alive_max_requests = 2**62
    if not options.stock:
        server.install()
    uvloop.run(serve(application, config, shutdown_trigger=asyncio.Event().wait))


if __name__ == "__main__":
    main()
