"""Pictures to inputs, and outputs to accuracy, on pictures and annotations made here."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from sccodec.evaluate import classification, detection


def test_the_centre_of_a_picture_is_scaled_as_in_training():
    picture = Image.new("RGB", (512, 256))
    picture.paste((255, 127, 0), (144, 16, 368, 240))  # the central 224 of 256 pixels
    values = classification.preprocess(picture)
    assert values.shape == (3, 224, 224) and values.dtype == np.float32
    for plane, expected in zip(values, (1.0, 0.0, -127 / 128), strict=True):
        assert np.ptp(plane) == 0 and plane[0, 0] == pytest.approx(expected)


def test_a_folder_of_labelled_pictures(tmp_path):
    labels = {"b.png": 2, "a.png": 1, "c.png": 0}
    for name, label in labels.items():
        Image.new("L", (64, 80), 100 * label).save(tmp_path / name)
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    inputs, found = classification.read_folder(tmp_path, most=2)
    assert inputs.shape == (2, 3, 224, 224) and found.tolist() == [1, 2]
    assert inputs[0].max() < inputs[1].min()


def test_top1_counts_rows():
    logits = np.array([[0, 1, 0], [3, 1, 2], [0, 0, 9]])
    assert classification.top1(logits, np.array([1, 0, 0])) == pytest.approx(2 / 3)


def test_letterbox_keeps_the_shape():
    square = detection.letterbox(Image.new("RGB", (200, 100), (255, 0, 0)), 40)
    assert square.shape == (3, 40, 40)
    assert (square[:, :10] == 0.5).all() and (square[:, 30:] == 0.5).all()
    assert (square[0, 10:30] == 1).all() and (square[1:, 10:30] == 0).all()


def test_overlapping_boxes_are_suppressed():
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 0.9], [0.5, 0.5, 1, 1], [0, 0, 0.1, 0.1]])
    assert detection.suppress(boxes) == [0, 2, 3]
    assert detection.suppress(boxes[:0]) == []


@pytest.fixture
def dataset(tmp_path):
    """Two pictures, 100x50 and 40x80, with an object each, of categories 3 and 8."""
    sizes = {"a.png": (100, 50), "b.png": (40, 80)}
    for name, size in sizes.items():
        Image.new("RGB", size).save(tmp_path / name)
    truth = {
        "images": [
            {"id": n, "file_name": name, "width": w, "height": h}
            for n, (name, (w, h)) in enumerate(sizes.items(), 1)
        ],
        "categories": [{"id": 8, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "bbox": [10, 10, 40, 20]},
            {"id": 2, "image_id": 2, "category_id": 8, "bbox": [0, 40, 40, 40]},
        ],
    }
    for box in truth["annotations"]:
        box |= {"area": box["bbox"][2] * box["bbox"][3], "iscrowd": 0}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    return detection.read_coco(tmp_path / "truth.json", tmp_path, 32)


def perfect_boxes():
    """What a network would say of the dataset: shares of the square around each picture."""
    boxes = np.zeros((2, 3, 5 + 2), np.float32)
    boxes[0, 0] = [0.30, 0.45, 0.4, 0.2, 0.9, 1, 0]  # bars of 25 pixels above and below
    boxes[0, 1] = [0.31, 0.45, 0.4, 0.2, 0.8, 1, 0]  # the same object once more
    boxes[1, 2] = [0.50, 0.75, 0.5, 0.5, 0.7, 0, 1]  # bars of 20 pixels left and right
    return boxes


def test_boxes_become_detections_in_pixels(dataset):
    assert dataset.inputs.shape == (2, 3, 32, 32)
    found = detection.detections(perfect_boxes(), dataset)
    assert [(d["image_id"], d["category_id"]) for d in found] == [(1, 3), (2, 8)]
    assert found[0]["bbox"] == pytest.approx([10, 10, 40, 20], abs=1e-4)
    assert found[1]["bbox"] == pytest.approx([0, 40, 40, 40], abs=1e-4)
    assert [d["score"] for d in found] == pytest.approx([0.9, 0.7])


def test_average_precision(dataset):
    pytest.importorskip("pycocotools")
    boxes = perfect_boxes()
    found = detection.detections(boxes, dataset)
    assert detection.average_precision(found, dataset) == pytest.approx(1)
    boxes[1, 2, :2] = 0.2  # far away
    worse = detection.detections(boxes, dataset)
    assert detection.average_precision(worse, dataset) == pytest.approx(0.5)
    assert detection.average_precision([], dataset) == 0


def test_agreement_takes_the_sure_boxes_of_another_run_for_the_truth(dataset):
    pytest.importorskip("pycocotools")
    boxes = perfect_boxes()
    reference = detection.detections(boxes, dataset)
    boxes[1, 2, 4] = 0
    fewer = detection.detections(boxes, dataset)
    assert detection.agreement(fewer, reference, dataset) == pytest.approx(0.5)
    assert detection.agreement(fewer, reference, dataset, least=0.8) == pytest.approx(1)
    assert len(dataset.truth["annotations"]) == 2  # left as it was
