"""The machine that figures belong to: what it is, how much memory a step took, one core or all."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
TASKS = Path("/proc/self/task")


def about() -> dict:
    """What every report says of itself: date, version of sccodec, and the machine."""
    from sccodec import __version__

    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"date": today, "sccodec": __version__, "machine": describe()}


def describe() -> dict[str, str | int | None]:
    """Processor, cores, memory, system, Python, and how busy it was in the last minute."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": _memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _memory() -> int | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (AttributeError, ValueError, OSError):
        return None


def reset_peak() -> bool:
    """Forgets this process's peak of resident memory; False where the system has no way to."""
    try:
        CLEAR.write_text("5")
    except OSError:
        return False
    return True


def peak() -> int | None:
    """Peak resident bytes of this process since `reset_peak`, code and libraries included.

    Linux only; None elsewhere, where the peak of one step cannot be told from earlier ones.
    """
    try:
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def clocked(step: Callable, name: str) -> tuple:
    """What a step gives; its seconds on the wall and on all cores, and its peak of memory."""
    can_tell = reset_peak()
    begin, begin_cpu = time.perf_counter(), time.process_time()
    result = step()
    facts = {
        f"{name}_s": time.perf_counter() - begin,
        f"{name}_cpu_s": time.process_time() - begin_cpu,
        f"{name}_peak": peak() if can_tell else None,
    }
    return result, facts


def use_cores(threads: int) -> None:
    """Keeps this process, its threads and those that it starts from now on, on that many cores.

    So one thread means one for every codec, also for those that cannot be told. Where the
    system cannot do that, only what can be told is.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    # The last ones, since the first also serves the system's interrupts.
    cores = sorted(os.sched_getaffinity(0))[-threads:]
    os.sched_setaffinity(0, cores)
    # Libraries have started threads by now, and each thread has cores of its own.
    for thread in TASKS.iterdir() if TASKS.is_dir() else ():
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(thread.name), cores)
