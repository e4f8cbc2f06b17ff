"""Speed of pictures as ratios, measured side by side: python benchmarks/photo_speed.py PICTURE

Whole processes, their start included: `sccodec decode` beside `avifdec`, `sccodec encode -e 1`
beside `avifenc -s 6` (Debian's libavif-bin, its own quality), PNG in and out. In a warm process:
our decoder beside the two networks that decoding mbt2018-mean needs (Minnen, Ballé, Toderici 2018),
with random weights, which take as long as trained ones; its entropy coder is left out, so that the
ratio is a lower bound. The contestants take turns, and the median of each counts.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# One thread of BLAS, as the command line has it; PyTorch and ONNX Runtime use all cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from PIL import Image

import sccodec
from sccodec.threads import cores

RATE = 0.5
CHANNELS, LATENTS = 192, 320  # of mbt2018-mean above quality 4


def medians(contestants: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Seconds of each; one turn before does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(turns + 1):
        for name, work in contestants.items():
            begin = time.perf_counter()
            work()
            if turn:
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def process(*command: object) -> Callable[[], object]:
    words = list(map(str, command))
    return lambda: subprocess.run(words, check=True, capture_output=True, env=environment())


def environment() -> dict[str, str]:
    """This one's, with compiled modules kept, as they are where pip has installed them."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "photo-speed")}


def whole_processes(picture: Path, place: Path, turns: int) -> dict[str, float]:
    ours = [sys.executable, "-m", "sccodec"]
    scc, avif = place / "picture.scc", place / "picture.avif"
    contestants = {
        "sccodec encode -e 1": process(
            *ours, "encode", picture, "-o", scc, "--step", step_of(picture), "-e", 1, "-f"
        ),
        "sccodec decode": process(*ours, "decode", scc, "-o", place / "ours.png", "-f"),
    }
    if shutil.which("avifenc"):
        contestants["avifenc -s 6"] = process("avifenc", "-s", 6, picture, avif)
        contestants["avifdec"] = process("avifdec", avif, place / "theirs.png")
    found = medians(contestants, turns)
    original = np.asarray(Image.open(picture).convert("RGB"), np.float64)
    for path, decoded in ((scc, "ours.png"), (avif, "theirs.png")):
        if path.exists():
            again = np.asarray(Image.open(place / decoded).convert("RGB"))
            error = np.mean(np.square(original - again))
            bits = 8 * path.stat().st_size / (original.size / 3)
            print(f"{path.suffix}: {bits:.3f} bpp, {10 * np.log10(255**2 / error):.2f} dB")
    return found


def step_of(picture: Path) -> int:
    """The step index that meets RATE, so that no search is timed."""
    with sccodec.open(sccodec.encode(str(picture), rate=RATE)) as file:
        return file.header.layers[1].step


def mbt2018_mean(width: int, height: int) -> Callable[[], object] | None:
    """Its hyper-synthesis and synthesis for a picture of that size; None without PyTorch."""
    try:
        import torch
        from torch import nn
    except ImportError:
        return None

    class InverseGDN(nn.Module):
        """x * sqrt(beta + gamma x^2), with gamma over channels."""

        def __init__(self):
            super().__init__()
            self.mix = nn.Conv2d(CHANNELS, CHANNELS, 1)

        def forward(self, x):
            return x * torch.sqrt(torch.abs(self.mix(x * x)) + 1e-6)

    def up(n_in: int, n_out: int) -> nn.Module:
        return nn.ConvTranspose2d(n_in, n_out, 5, stride=2, padding=2, output_padding=1)

    synthesis = nn.Sequential(
        up(LATENTS, CHANNELS), InverseGDN(), up(CHANNELS, CHANNELS), InverseGDN(),
        up(CHANNELS, CHANNELS), InverseGDN(), up(CHANNELS, 3),
    ).eval()  # fmt: skip
    hyper = nn.Sequential(
        up(CHANNELS, LATENTS), nn.LeakyReLU(), up(LATENTS, LATENTS * 3 // 2), nn.LeakyReLU(),
        nn.Conv2d(LATENTS * 3 // 2, LATENTS * 2, 3, padding=1),
    ).eval()  # fmt: skip
    y = torch.randn(1, LATENTS, -(-height // 64) * 4, -(-width // 64) * 4)
    z = torch.randn(1, CHANNELS, -(-height // 64), -(-width // 64))

    def decode():
        with torch.inference_mode():
            return hyper(z), synthesis(y)

    return decode


def warm(picture: Path, turns: int, jobs: int) -> dict[str, float]:
    data = sccodec.encode(str(picture), rate=RATE)
    width, height = Image.open(picture).size
    contestants = {"sccodec.decode": lambda: sccodec.decode(data, jobs=jobs)}
    other = mbt2018_mean(width, height)
    if other is not None:
        contestants["networks of mbt2018-mean"] = other
    return medians(contestants, turns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("--turns", type=int, default=9)
    options = parser.parse_args()
    width, height = Image.open(options.picture).size
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"sccodec {sccodec.__version__}, {platform.machine()}, {cores()} cores{load}")
    print(f"{options.picture.name}, {width}x{height}, median of {options.turns} turns")
    with tempfile.TemporaryDirectory() as place:
        found = whole_processes(options.picture, Path(place), options.turns)
    found |= warm(options.picture, options.turns, cores())
    for name, seconds in found.items():
        print(f"{name:26}{seconds:8.3f} s")
    for ours, theirs in (
        ("sccodec decode", "avifdec"),
        ("sccodec encode -e 1", "avifenc -s 6"),
        ("sccodec.decode", "networks of mbt2018-mean"),
    ):
        if theirs in found:
            print(f"{ours} takes {found[ours] / found[theirs]:.2f} times as long as {theirs}")


if __name__ == "__main__":
    main()
