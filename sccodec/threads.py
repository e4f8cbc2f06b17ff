"""Work on several threads, with results in the order of the items."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

Progress = Callable[[int, int], None]  # told (items done, items in all)


def cores() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def each(work: Callable, items: Iterable, jobs: int, progress: Progress | None = None) -> list:
    """[work(item) for item in items], on `jobs` threads, in the order of the items."""
    items, results = list(items), []

    def collect(finished: Iterable) -> list:
        for result in finished:
            results.append(result)
            if progress is not None:
                progress(len(results), len(items))
        return results

    if jobs <= 1 or len(items) <= 1:
        return collect(map(work, items))
    with ThreadPoolExecutor(jobs) as pool:
        return collect(pool.map(work, items))
