"""What encoding effort costs and buys: files of two efforts at the same steps, side by side.

    python benchmarks/effort.py FOLDER [--efforts 1,2,3,4,5] [--steps 272,304,336,368] [--crop 256]

Rates and PSNR are those of written files, means over the pictures; BD-rate is against the first
effort. With --crop only the centres of the pictures are coded, since the highest efforts take
minutes for a picture. Seconds are processor seconds of `sccodec.encode` in one warm process, taken
picture by picture in turn, and told as multiples of the first effort's.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

import numpy as np
from PIL import Image

import sccodec
from sccodec.evaluate.curves import bd_rate
from sccodec.evaluate.quality import psnr


def measure(pixels: np.ndarray, step: int, effort: int) -> tuple[float, float, float]:
    """(bits per pixel, PSNR in dB, processor seconds of encoding)."""
    begin = time.process_time()
    data = sccodec.encode(pixels, step=step, effort=effort)
    seconds = time.process_time() - begin
    bpp = 8 * len(data) / (pixels.shape[0] * pixels.shape[1])
    return bpp, psnr(sccodec.decode(data), pixels), seconds


def centre(pixels: np.ndarray, side: int | None) -> np.ndarray:
    """The square in the middle, or all of the picture."""
    if side is None:
        return pixels
    top, left = (max(length - side, 0) // 2 for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--efforts", type=numbers, default=[1, 2, 3, 4, 5])
    parser.add_argument("--steps", type=numbers, default=[272, 304, 336, 368])
    parser.add_argument("--crop", type=int, metavar="PIXELS", help="sides of the centres")
    options = parser.parse_args()
    pictures = [
        centre(np.asarray(Image.open(path).convert("RGB")), options.crop)
        for path in sorted(options.folder.glob("*.png"))
    ]
    if not pictures:
        parser.error(f"no .png pictures in {options.folder}")
    measure(pictures[0], options.steps[0], options.efforts[0])  # loads the model
    found = np.array(
        [
            [[measure(p, step, effort) for effort in options.efforts] for step in options.steps]
            for p in pictures
        ]
    ).mean(0)
    part = f"centres of {options.crop} pixels" if options.crop else "whole"
    print(f"{len(pictures)} pictures, {part}, sccodec {sccodec.__version__}, {platform.machine()}")
    print("| effort | processor seconds, as a multiple | BD-rate |\n|---|---|---|")
    first = found[:, 0]
    for n, effort in enumerate(options.efforts):
        points = found[:, n]
        difference = bd_rate(first[:, :2].tolist(), points[:, :2].tolist())
        times = points[:, 2].sum() / first[:, 2].sum()
        print(f"| {effort} | {times:.2f} | {difference.percent:+.2f} % |")


if __name__ == "__main__":
    main()
