"""How fast tensors are coded: python benchmarks/tensor_speed.py [--processes 2] [--seconds 5]

Sparse features behind a ReLU, coded at about 0.7 bits per element, beside zlib on the same level
numbers, beside the papers' unary coder, and beside a copy of the array. Each figure is the best
of as many runs as fit in the time, so that what else the machine does counts as little as can be;
the ratios hold on machines of any speed. Design is left out: a calibration is fitted before.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import time
import zlib
from collections.abc import Callable
from dataclasses import replace

# One thread of BLAS, as the command line has it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from sccodec.codecs import tensor
from sccodec.codecs.calibration import calibrate
from sccodec.container import from_bytes
from sccodec.entropy import unary
from sccodec.media.tensor import from_array
from sccodec.threads import cores

SHAPE = (16, 256, 28, 28)  # pictures, channels, rows, columns: 3.2 million elements
RATE = 0.7
UNARY_PLANES = 128  # of the unary coder, which is slow


def features(seed: int = 0) -> np.ndarray:
    """Post-ReLU features: channels of many strengths, smooth in space, most elements zero."""
    random = np.random.default_rng(seed)
    pictures, channels, rows, columns = SHAPE
    # A few patterns in each picture, which every channel sees with weights of its own.
    patterns = random.normal(size=(pictures, 12, -(-rows // 2), -(-columns // 2)))
    patterns = np.repeat(np.repeat(patterns, 2, 2), 2, 3)[..., :rows, :columns]
    weights = random.normal(size=(channels, 12)) / np.sqrt(12)
    values = np.einsum("cp,nphw->nchw", weights, patterns)
    values += random.normal(size=SHAPE) / 2
    values += random.normal(-1.0, 1.0, size=(1, channels, 1, 1))
    values *= random.gamma(2, 0.5, size=(1, channels, 1, 1))
    return np.maximum(values, 0).astype(np.float32)


def best(work: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest run."""
    least, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        work()
        least = min(least, time.perf_counter() - start)
    return least


def measure(seconds: float, together) -> tuple[dict[str, float], str]:
    """Elements a second of each way, and what was coded; `together` is where all processes meet."""
    values = features()
    few = [from_array(values[:2])]
    calibration = calibrate([few], tensor.Settings(rate=RATE))
    settings = tensor.Settings(calibration=calibration)
    trusting = replace(settings, check=False)
    data = tensor.encode(values, settings)
    (design,) = calibration.designs.values()
    levels = design.embedded.finest.index(values)
    planes = levels.reshape(-1, *SHAPE[2:])[:UNARY_PLANES]
    count = len(design.embedded.finest)
    code, packed, reader = unary.encode(planes, count), zlib.compress(levels, 6), from_bytes(data)
    elements = values.size
    rows = [
        ("encode", elements, lambda: tensor.encode(values, settings)),
        ("encode, not read back", elements, lambda: tensor.encode(values, trusting)),
        ("decode", elements, lambda: tensor.decode(reader)),
        ("copy of the array", elements, values.copy),
        ("zlib -6 of the levels", elements, lambda: zlib.compress(levels, 6)),
        ("zlib, back", elements, lambda: zlib.decompress(packed)),
        ("unary coder", planes.size, lambda: unary.encode(planes, count)),
        ("unary coder, back", planes.size, lambda: unary.decode(code, planes.shape, count)),
    ]
    speeds = {}
    for name, number, work in rows:
        together.wait()
        speeds[name] = number / best(work, seconds)
    about = (
        f"{elements} elements, {count} levels, {(levels == 0).mean():.0%} of them 0, "
        f"{8 * len(data) / elements:.3f} bits per element; zlib takes "
        f"{8 * len(packed) / elements:.3f}, "
        f"the unary coder {8 * len(code) / planes.size:.3f} (of {UNARY_PLANES} planes)"
    )
    return speeds, about


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=cores(), help="side by side; speeds add")
    parser.add_argument("--seconds", type=float, default=5, help="for each figure")
    options = parser.parse_args()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(
        f"{platform.machine()}, {cores()} cores{load}, NumPy {np.__version__}, "
        f"{options.processes} processes"
    )
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(options.processes) as pool:
        together = manager.Barrier(options.processes)
        found = pool.starmap(measure, options.processes * [(options.seconds, together)], 1)
    print(found[0][1])
    speeds = {name: sum(each[name] for each, _ in found) for name in found[0][0]}
    for name, speed in speeds.items():
        print(f"{name:24}{speed / 1e6:10.2f} M elements/s")
    for way, other, back in (("encode", "zlib -6 of the levels", "unary coder"),
                             ("decode", "zlib, back", "unary coder, back")):  # fmt: skip
        print(f"{way}: {speeds[way] / speeds[other]:.2f} of zlib's speed, "
              f"{speeds[way] / speeds[back]:.0f} times the unary coder's")  # fmt: skip


if __name__ == "__main__":
    main()
