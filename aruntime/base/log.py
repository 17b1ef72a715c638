"""One escaped line an event: `2026-11-24T12:00:00.000Z info engine.ready model=demo version=1`.

Values never hold a prompt or an answer's text. Control characters, spaces and quotes are escaped, so one event can
neither forge nor break a line.
"""

import json
import logging
import sys
import time

_logger = logging.getLogger("aruntime")


def configure(level: str = "info") -> None:
    """Write events of `level` and above to standard error. Called once, by a process's main."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    _logger.handlers = [handler]
    _logger.propagate = False
    _logger.setLevel(level.upper())


def level() -> str:
    """What is written at least, in this process."""
    return logging.getLevelName(_logger.level).lower()


def set_level(level: str) -> None:
    """Write events of `level` and above from now on, in this process."""
    _logger.setLevel(level.upper())


def debug(event: str, **fields: object) -> None:
    _write(logging.DEBUG, event, fields)


def info(event: str, **fields: object) -> None:
    _write(logging.INFO, event, fields)


def warning(event: str, **fields: object) -> None:
    _write(logging.WARNING, event, fields)


def error(event: str, **fields: object) -> None:
    _write(logging.ERROR, event, fields)


def _write(level: int, event: str, fields: dict[str, object]) -> None:
    if not _logger.isEnabledFor(level):
        return
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
    words = [stamp, logging.getLevelName(level).lower(), event]
    words += [f"{name}={_escape(value)}" for name, value in fields.items()]
    _logger.log(level, " ".join(words))


def _escape(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    plain = text.isascii() and text.isprintable() and not set(text) & set(' "=\\')
    return text if plain and text else json.dumps(text)
