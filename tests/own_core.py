"""Keeps each of pytest-xdist's workers to a core of its own; imported before NumPy.

Where threads of several workers take turns on all cores, the tests take twice as long. NumPy's BLAS
counts the cores as it is loaded, so later would be too late.
"""

from __future__ import annotations

import os

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")  # gw0, gw1 ...

if CORES and WORKER:
    os.sched_setaffinity(0, {CORES[int(WORKER.removeprefix("gw")) % len(CORES)]})
