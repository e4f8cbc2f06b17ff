"""Rates and PSNR of written .scc files, base and all layers, beside JPEG and WebP.

    python benchmarks/photo_rates.py FOLDER --rates 0.25,0.5,1.0 [--out DIR] [--json FILE]

Every figure comes from a file's bytes and from the pixels decoded from it. JPEG (4:2:0 and
optimised Huffman tables) and WebP (method 6) get the highest quality whose file is no larger
than the .scc file, both for the whole file and for the file extracted down to its base.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

import sccodec
from sccodec.evaluate import markdown
from sccodec.evaluate.quality import psnr


def best_within(pixels: np.ndarray, most: int, kind: str) -> tuple[int, float] | None:
    """(bytes, PSNR) of the best file of at most `most` bytes; None if even quality 1 is larger."""
    options = {"JPEG": {"optimize": True}, "WEBP": {"method": 6}}[kind]
    low, high, best = 1, 100, None
    while low <= high:
        quality = (low + high) // 2
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, kind, quality=quality, **options)
        if out.tell() <= most:
            low, best = quality + 1, out
        else:
            high = quality - 1
    if best is None:
        return None
    return best.tell(), psnr(np.asarray(Image.open(best).convert("RGB")), pixels)


def measure(path: Path, rate: float, keep: Path | None) -> dict:
    pixels = np.asarray(Image.open(path).convert("RGB"))
    whole = sccodec.encode(pixels, rate=rate)
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{path.stem}-{rate}.scc").write_bytes(whole)
    row: dict = {"picture": path.stem, "rate": rate, "pixels": pixels.shape[0] * pixels.shape[1]}
    for name, data in (("base", sccodec.extract(whole, "base")), ("all", whole)):
        row[name] = [len(data), psnr(sccodec.decode(data), pixels)]
        for kind in ("JPEG", "WEBP"):
            row[f"{kind.lower()} at {name}"] = best_within(pixels, len(data), kind)
    return row


def table(rows: list[dict]) -> str:
    lines = []
    for rate in sorted({row["rate"] for row in rows}):
        part = [row for row in rows if row["rate"] == rate]
        for name in ("base", "all"):
            bpp = np.mean([8 * row[name][0] / row["pixels"] for row in part])
            share = np.sum([row[name][0] for row in part]) / np.sum([r["all"][0] for r in part])
            cells = [f"{rate}", name, f"{bpp:.4f}", f"{share:.0%}"]
            cells.append(f"{np.mean([row[name][1] for row in part]):.2f}")
            for kind in ("jpeg", "webp"):
                found = [row[f"{kind} at {name}"] for row in part]
                if None in found:
                    cells.append(f"{found.count(None)} of {len(found)} too large")
                else:
                    cells.append(f"{np.mean([f[1] for f in found]):.2f}")
            lines.append(cells)
    heads = ["rate", "layers", "bpp", "share", "PSNR dB", "JPEG dB", "WebP dB"]
    return markdown.table(heads, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rates", default="0.25,0.5,1.0")
    parser.add_argument("--out", type=Path, help="keep the .scc files here")
    parser.add_argument("--json", type=Path, help="write every figure here")
    options = parser.parse_args()
    paths = sorted(options.folder.glob("*.png"))
    if not paths:
        parser.error(f"no .png pictures in {options.folder}")
    rows = [
        measure(path, float(rate), options.out)
        for rate in options.rates.split(",")
        for path in paths
    ]
    versions = (
        f"Python {platform.python_version()}, NumPy {np.__version__}, Pillow {PIL.__version__}"
    )
    print(f"{len(paths)} pictures, sccodec {sccodec.__version__}, {versions}, {platform.machine()}")
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
