"""What layers of tensors cost: python benchmarks/tensor_layers.py FEATURES.npy.. [--rates 0.8 1.5]

Each .npy holds features (N, C, H, W), of which each item becomes files of its own: one layer, two
layers, two layers of levels alone (no transform), each at the rates asked for, and one layer of at
most as many bytes as the base of the two. Prints a Markdown table of means: bits per element, and
the squared error over the variance of the tensor.
"""

from __future__ import annotations

import argparse
import datetime
import platform
from pathlib import Path

import numpy as np

import sccodec
from sccodec.evaluate import markdown


class Column:
    """Bits per element and errors of one kind of file."""

    def __init__(self):
        self.bits: list[float] = []
        self.errors: list[float] = []

    def add(self, features: np.ndarray, data: bytes) -> None:
        lost = np.square(sccodec.decode(data) - features).mean() / features.var()
        self.bits.append(8 * len(data) / features.size)
        self.errors.append(float(lost))

    def __str__(self) -> str:
        return f"{np.mean(self.bits):.3f}, {np.mean(self.errors):.4f}"


def measure(items: np.ndarray, rate: float) -> list[Column]:
    columns = [Column() for _ in range(5)]
    single, both, levels, base, alone = columns

    def encode(features: np.ndarray, **how) -> bytes:
        return sccodec.encode(features, profile="tensor", **how)

    for features in items:
        data = encode(features, rate=rate, layers=2)
        coarse = sccodec.extract(data, "base")
        single.add(features, encode(features, rate=rate))
        both.add(features, data)
        levels.add(features, encode(features, rate=rate, layers=2, transform=False))
        base.add(features, coarse)
        alone.add(features, encode(features, max_bytes=len(coarse)))
    return columns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("features", nargs="+", type=Path)
    parser.add_argument("--rates", nargs="+", type=float, default=[0.8, 1.5])
    options = parser.parse_args()
    print(f"{datetime.date.today()}, {platform.machine()}; numpy {np.__version__}\n")
    titles = "one layer", "two layers", "two, of levels", "their base", "one layer of its size"
    rows = []
    for path in options.features:
        items = np.load(path, mmap_mode="r")
        name = f"{path.stem}, {len(items)} of {'×'.join(map(str, items.shape[1:]))}"
        for rate in options.rates:
            rows.append([name, str(rate), *map(str, measure(items, rate))])
    print(markdown.table(["features", "rate", *titles], rows))


if __name__ == "__main__":
    main()
