"""Draws docs/images/layers.jpg and writes its figures into docs/layers.md: python docs/pictures.py

The bundled photo as base, whole file and file with a region of interest, side by side, from files
that the shipped model wrote. Run it after the model has changed.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image

import sccodec
from sccodec.codecs.image import Interest

DOCS = Path(__file__).parent
PHOTO = DOCS.parent / "sccodec" / "demo" / "photo.png"
RATE = 0.5
REGION = (256, 64, 256, 192)  # x, y, w, h; whole tiles of 64 pixels
FINER = 48
STEP = 340


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.mean(np.square(a.astype(float) - b)))


def main() -> None:
    photo = np.asarray(Image.open(PHOTO).convert("RGB"))
    whole = sccodec.encode(photo, rate=RATE)
    base = sccodec.extract(whole, "base")
    interest = Interest(REGION, FINER, only=True)
    region = sccodec.encode(photo, step=STEP, roi=interest, tile=64)
    shown = {"base alone": base, "base and enhancement": whole, "enhancement here only": region}
    x, y, w, h = REGION
    inside = np.zeros(photo.shape[:2], bool)
    inside[y : y + h, x : x + w] = True
    rows, pixels = [], []
    for name, data in shown.items():
        pixels.append(sccodec.decode(data))
        bits = 8 * len(data) / inside.size
        cells = [name, f"{len(data)}", f"{bits:.3f}"]
        cells += [f"{psnr(photo[part], pixels[-1][part]):.2f}" for part in (inside, ~inside)]
        rows.append("| " + " | ".join(cells) + " |")
    heads = ["picture", "bytes", "bpp", "PSNR in the region", "PSNR outside"]
    table = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * 4 + "|", *rows]
    page = DOCS / "layers.md"
    marks = r"(<!-- figures -->\n).*?(<!-- end of figures -->)"
    text, count = re.subn(
        marks, lambda m: m[1] + "\n".join(table) + "\n" + m[2], page.read_text(), flags=re.DOTALL
    )
    assert count == 1, f"{page} has no place for the figures"
    page.write_text(text)
    montage = Image.fromarray(np.concatenate(pixels, 1))
    montage.save(DOCS / "images" / "layers.jpg", quality=90, subsampling=0, optimize=True)


if __name__ == "__main__":
    main()
