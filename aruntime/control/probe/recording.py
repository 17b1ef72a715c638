"""Golden questions are recorded before a version is published: its draft is loaded by a real engine and asked.

    prompts.jsonl ──► an engine and a prober, as a server has them ──► golden/recorded.jsonl in the draft

What the draft's own golden files promise is checked first, as at any start: a version that breaks them is refused.
"""

import asyncio
from pathlib import Path

from aruntime.control.launcher import LocalLauncher
from aruntime.control.probe.golden import FOLDER
from aruntime.control.probe.prober import PROBE_S_MAX
from aruntime.control.replica import LOAD_S_MAX, Replica
from aruntime.control.settings import VersionRefused
from aruntime.wire.control import Load, Probed

RECORDED = "recorded.jsonl"
_STOP_S_MAX = 10.0


async def record(order: Load, prompts: Path) -> int:
    """Ask the version in `order.folder` the lines of `prompts` (`golden.Prompt`) and write the answers into it.

    Returns how many there are. VersionRefused: it cannot be loaded, breaks its own promises, or a prompt is wrong.
    """
    into = Path(order.folder) / FOLDER / RECORDED
    if into.exists():
        raise VersionRefused(f"{FOLDER}/{RECORDED} is there already: it would be recorded anew")
    changed = asyncio.Event()
    replica = Replica(
        0, order.model, order.version, LocalLauncher(), asyncio.get_running_loop().time, lambda _: changed.set()
    )
    replica.start(order, 0)
    try:
        async with asyncio.timeout(LOAD_S_MAX + 2 * PROBE_S_MAX):
            await _ready(replica, changed)
            probed = await _asked(replica, ["--record", str(prompts), "--into", str(into)])
    except TimeoutError:
        raise VersionRefused("the golden questions were not answered in time") from None
    finally:
        await _stop(replica, changed)
    if not probed.passed:
        raise VersionRefused(f"nothing was recorded: {probed.reason}")
    return probed.questions


async def _ready(replica: Replica, changed: asyncio.Event) -> None:
    while replica.life != "ready":
        if replica.life in ("down", "failed"):
            raise VersionRefused(f"its golden questions cannot be recorded: {replica.reason}")
        changed.clear()
        await changed.wait()


async def _asked(replica: Replica, arguments: list[str]) -> Probed:
    done: asyncio.Future[Probed] = asyncio.get_running_loop().create_future()
    replica.probe(done.set_result, arguments)
    return await done


async def _stop(replica: Replica, changed: asyncio.Event) -> None:
    """Nothing of it is left when this returns."""
    if replica.life != "failed":
        replica.stop()
    for wait_s in (_STOP_S_MAX, _STOP_S_MAX):
        try:
            async with asyncio.timeout(wait_s):
                while not replica.gone:
                    changed.clear()
                    await changed.wait()
            return
        except TimeoutError:
            replica.kill()
