"""What processes have used, read from /proc; and on which core they run."""

import os
from pathlib import Path


def family(pid: int) -> list[int]:
    """A process and all that come from it."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    found = [pid]
    for member in found:  # grows meanwhile
        found += [child for child, parent in parents.items() if parent == member]
    return found


def running(pid: int, words: str) -> list[int]:
    """Those of the family whose command line contains `words`."""
    return [member for member in family(pid) if words in _command(member)]


def cpu_s(pids: list[int]) -> float:
    """Seconds of processor time of their living threads, in the program and in the kernel for it, to the nanosecond.

    What /proc/PID/stat says is the same in ticks of 10 ms.
    """
    files = [file for pid in pids for file in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return 1e-9 * sum(int(file.read_text().split()[0]) for file in files)


def sleeps(pid: int) -> int:
    """How often its main thread has gone to sleep of itself, so how often it was woken."""
    lines = Path(f"/proc/{pid}/task/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("voluntary_ctxt_switches")).split()[1])


def pin(pid: int, core: int) -> None:
    """Move every thread of a process to one core."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


def rss_bytes(pid: int) -> int:
    """Memory that it holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    """How many it has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""
