"""Draws docs/images/layers.jpg and writes its figures into docs/layers.md: python docs/pictures.py

The bundled photo as base, whole file and file with a region of interest, side by side, from files
that the shipped model wrote. Run it after the model has changed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import sccodec
from sccodec.codecs.image import Interest
from sccodec.evaluate import markdown
from sccodec.evaluate.quality import psnr

DOCS = Path(__file__).parent
PHOTO = DOCS.parent / "sccodec" / "demo" / "photo.png"
RATE = 0.5
REGION = (256, 64, 256, 192)  # x, y, w, h; whole tiles of 64 pixels
FINER = 48
STEP = 340


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
        rows.append(cells)
    heads = ["picture", "bytes", "bpp", "PSNR in the region", "PSNR outside"]
    markdown.put(DOCS / "layers.md", markdown.table(heads, rows))
    montage = Image.fromarray(np.concatenate(pixels, 1))
    montage.save(DOCS / "images" / "layers.jpg", quality=90, subsampling=0, optimize=True)


if __name__ == "__main__":
    main()
