"""Classification: pictures with one label each -> inputs of a classifier; top-1 accuracy."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

from sccodec.evaluate.split import prepared

MEAN, DEVIATION = 127.0, 128.0  # what the EfficientNet-Lite networks were trained with
MARGIN = 32  # of 256 pixels, half of them on each side, are cropped away


def preprocess(picture: Image.Image, size: int = 224) -> np.ndarray:
    """The centre of a picture, resized bicubically -> float32 (3, size, size).

    The crop is the largest square times size / (size + 32), as in the networks' own evaluation.
    """
    side = round(min(picture.size) * size / (size + MARGIN))
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.convert("RGB").crop((left, top, left + side, top + side))
    pixels = np.asarray(square.resize((size, size), Image.Resampling.BICUBIC), np.float32)
    return ((pixels - MEAN) / DEVIATION).transpose(2, 0, 1)


def read_folder(folder: str | os.PathLike, most: int | None = None) -> tuple[np.ndarray, ...]:
    """A folder with labels.json, {name: class index} -> inputs (N, 3, 224, 224), labels (N,)."""
    labels = json.loads((Path(folder) / "labels.json").read_text())
    names = sorted(labels)[:most]
    pictures = prepared((Path(folder) / name for name in names), preprocess)
    return pictures, np.array([labels[name] for name in names])


def top1(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows (N, classes) whose highest logit is that of the label (N,)."""
    return float((logits.argmax(1) == labels).mean())
