"""Detection: COCO pictures -> inputs of a YOLO network; its boxes -> mAP by pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

GRAY = 0.5  # of the bars around a picture that is not square
MIN_SCORE = 0.005  # what darknet's own evaluation keeps
MAX_OVERLAP = 0.45  # of two boxes of one class
MOST = 100  # boxes of a picture that COCO counts


@dataclass(frozen=True)
class Dataset:
    """Pictures made ready for a network, and the truth in COCO's format."""

    inputs: np.ndarray  # float32 (N, 3, size, size), 0..1
    ids: list[int]  # of the pictures
    extents: list[tuple[int, int]]  # width, height of the pictures
    truth: dict  # images, annotations, categories


def letterbox(picture: Image.Image, size: int) -> np.ndarray:
    """A picture scaled to fit in a square, gray bars beside it -> float32 (3, size, size), 0..1."""
    scale = size / max(picture.size)
    width, height = (max(1, round(n * scale)) for n in picture.size)
    small = picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    square = np.full((size, size, 3), GRAY, np.float32)
    left, top = (size - width) // 2, (size - height) // 2
    square[top : top + height, left : left + width] = np.asarray(small, np.float32) / 255
    return square.transpose(2, 0, 1)


def read_coco(
    annotations: str | os.PathLike, folder: str | os.PathLike, size: int, most: int | None = None
) -> Dataset:
    """A COCO .json file and the folder of its pictures."""
    truth = json.loads(Path(annotations).read_text())
    images = sorted(truth["images"], key=lambda image: image["id"])[:most]
    inputs, extents = [], []
    for image in images:
        with Image.open(Path(folder) / image["file_name"]) as picture:
            inputs.append(letterbox(picture, size))
            extents.append(picture.size)
    return Dataset(np.stack(inputs), [image["id"] for image in images], extents, truth)


def detections(boxes: np.ndarray, dataset: Dataset) -> list[dict]:
    """Boxes (N, B, 5 + classes) of `Darknet.tail` -> COCO results of the pictures.

    Class k is the category with the k-th lowest id. A box counts for each class whose
    probability times its objectness is above MIN_SCORE, and of overlapping boxes of one class
    the best stays; MOST of them in a picture.
    """
    categories = sorted(category["id"] for category in dataset.truth["categories"])
    found = []
    for rows, identity, extent in zip(boxes, dataset.ids, dataset.extents, strict=True):
        kept = _best(rows)
        corners = _unletterbox(np.array([box for box, _, _ in kept]).reshape(-1, 4), extent)
        for (x0, y0, x1, y1), (_, label, score) in zip(corners.tolist(), kept, strict=True):
            found.append(
                {
                    "image_id": identity,
                    "category_id": categories[label],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "score": score,
                }
            )
    return found


def _best(rows: np.ndarray) -> list[tuple[np.ndarray, int, float]]:
    """(corners, class, score) of the boxes that stay, best first; rows are (B, 5 + classes)."""
    half = rows[:, 2:4] / 2
    corners = np.concatenate([rows[:, :2] - half, rows[:, :2] + half], 1)
    scores = rows[:, 5:] * rows[:, 4:5]
    found = []
    for label in np.flatnonzero((scores > MIN_SCORE).any(0)).tolist():
        of_class = scores[:, label]
        chosen = np.flatnonzero(of_class > MIN_SCORE)
        order = chosen[np.argsort(-of_class[chosen], kind="stable")]
        for i in suppress(corners[order]):
            found.append((corners[order[i]], label, float(of_class[order[i]])))
    return sorted(found, key=lambda item: -item[2])[:MOST]


def suppress(corners: np.ndarray) -> list[int]:
    """Which boxes (n, 4) of x0, y0, x1, y1, best first, overlap no better one too much."""
    area = np.prod(corners[:, 2:] - corners[:, :2], axis=1)
    kept: list[int] = []
    for i, box in enumerate(corners):
        low = np.maximum(corners[kept, :2], box[:2])
        high = np.minimum(corners[kept, 2:], box[2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        if not (shared > MAX_OVERLAP * (area[kept] + area[i] - shared)).any():
            kept.append(i)
    return kept


def _unletterbox(corners: np.ndarray, extent: tuple[int, int]) -> np.ndarray:
    """Shares of the square -> pixels of the picture, within it."""
    side = max(extent)
    bars = [(side - n) / 2 for n in extent] * 2
    return np.clip(corners * side - bars, 0, [*extent, *extent])


def average_precision(results: list[dict], dataset: Dataset) -> float:
    """mAP at an overlap of 0.5, over COCO's 101 recalls, as pycocotools counts it: 0..1."""
    return _evaluate(results, dataset.truth, dataset.ids)


def agreement(results: list[dict], reference: list[dict], dataset: Dataset, least=0.3) -> float:
    """mAP at 0.5 against another run's boxes of a score of at least `least`, as if true.

    What coding changed, on many more boxes than the truth has and without its noise.
    """
    annotations = [
        {**box, "id": n, "area": box["bbox"][2] * box["bbox"][3], "iscrowd": 0}
        for n, box in enumerate((b for b in reference if b["score"] >= least), 1)
    ]
    return _evaluate(results, {**dataset.truth, "annotations": annotations}, dataset.ids)


def _evaluate(results: list[dict], truth: dict, ids: list[int]) -> float:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    if not results:
        return 0.0
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        known = COCO()
        known.dataset = truth
        known.createIndex()
        evaluation = COCOeval(known, known.loadRes(results), "bbox")
        evaluation.params.imgIds = ids
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][0, :, :, 0, -1]  # recalls, classes
    return float(precision[precision > -1].mean())
