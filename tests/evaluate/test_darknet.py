"""Darknet networks from small .cfg texts and weights made here."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sccodec.errors import BadRequest, Damaged, Unsupported
from sccodec.evaluate import darknet

CFG = """
[net]
width=8      # pixels
height=8
# a comment
[convolutional]
batch_normalize=1
filters=4
size=3
pad=1
activation=leaky
[maxpool]
size=2
stride=2
[convolutional]
filters=14
size=1
activation=linear
[yolo]
mask = 0,1
anchors = 2,3, 4,5, 6,7
[route]
layers = -3
[upsample]
stride=2
[route]
layers = -1, 0
[convolutional]
filters=7
size=1
activation=linear
[yolo]
mask = 2
anchors = 2,3, 4,5, 6,7
"""
COUNT = 4 * 4 + 4 * 3 * 9 + 14 + 14 * 4 + 7 + 7 * 8


def weights(count=COUNT, version=(0, 2), seed=1) -> bytes:
    seen = np.zeros(2 if version >= (0, 2) else 1, "<i4")
    numbers = np.abs(np.random.default_rng(seed).normal(size=count)).astype("<f4")
    return np.array([*version, 0], "<i4").tobytes() + seen.tobytes() + numbers.tobytes()


@pytest.fixture
def pictures():
    return np.random.default_rng(2).random((2, 3, 8, 8), np.float32)


def test_every_cut_gives_the_same_boxes(pictures):
    network = darknet.Darknet(CFG, weights())
    assert network.splits == ("layer 0",)  # layer 6 looks back to it
    features = network.head(pictures, "layer 0")
    assert features.shape == (2, 4, 8, 8)
    boxes = network.tail(features, "layer 0")
    assert boxes.shape == (2, 2 * 4 * 4 + 8 * 8, 5 + 2)
    assert boxes[..., 4:].min() >= 0 and boxes[..., 4:].max() <= 1


def test_a_chain_can_be_cut_after_every_layer(pictures):
    chain = CFG[: CFG.index("[route]")]
    network = darknet.Darknet(chain, weights(4 * 4 + 4 * 3 * 9 + 14 + 14 * 4))
    assert network.splits == ("layer 0", "layer 1", "layer 2")
    boxes = [network.tail(network.head(pictures, s), s) for s in network.splits]
    assert np.array_equal(boxes[0], boxes[1]) and np.array_equal(boxes[0], boxes[2])


def test_convolution_is_normalised_and_leaky(pictures):
    """Layer 0 again from torch's layers, with the numbers in darknet's order."""
    data = weights()
    numbers = torch.from_numpy(np.frombuffer(data, "<f4", offset=20).copy())
    bias, scale, mean, variance = numbers[:16].view(4, 4)
    x = torch.nn.functional.conv2d(
        torch.from_numpy(pictures), numbers[16 : 16 + 108].view(4, 3, 3, 3), padding=1
    )
    x = torch.nn.functional.batch_norm(x, mean, variance, scale, bias, eps=0)
    expected = torch.nn.functional.leaky_relu(x, 0.1).numpy()
    features = darknet.Darknet(CFG, data).head(pictures, "layer 0")
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4)


def test_boxes_follow_the_equations_of_the_paper():
    cfg = "[net]\nwidth=16\nheight=8\n[yolo]\nmask=1\nanchors=1,1, 4,2\n"
    network = darknet.Darknet(cfg, weights(0))
    x = np.zeros((1, 6, 2, 4), np.float32)
    x[0, :, 1, 2] = [0, 0, np.log(2), 0, 1, -1]
    boxes = network._run(-1, x, 0)[0].numpy()[0].reshape(2, 4, 6)
    sure, rare = 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))
    assert boxes[1, 2] == pytest.approx([2.5 / 4, 1.5 / 2, 8 / 16, 2 / 8, sure, rare])
    assert boxes[0, 0] == pytest.approx([0.5 / 4, 0.5 / 2, 4 / 16, 2 / 8, 0.5, 0.5])


def test_maxpool_of_stride_one_keeps_the_size():
    x = torch.arange(9.0).view(1, 1, 3, 3)
    assert darknet._maxpool(x, 2, 1).flatten().tolist() == [4, 5, 5, 7, 8, 8, 7, 8, 8]
    assert darknet._maxpool(x, 2, 2).flatten().tolist() == [4, 5, 7, 8]


@pytest.mark.parametrize("version", [(0, 1), (0, 2), (1, 0)])
def test_both_headers_of_weights(version):
    data = weights(version=(0, 1)) if version == (0, 1) else weights(version=version)
    assert darknet.Darknet(CFG, data).splits == ("layer 0",)


@pytest.mark.parametrize(
    ("cfg", "data", "error", "message"),
    [
        (CFG, weights(COUNT - 1), Damaged, f"{COUNT - 1} numbers, the cfg asks for more"),
        (CFG, weights(COUNT + 1), Damaged, f"{COUNT + 1} numbers, the cfg asks for {COUNT}"),
        (CFG, weights()[:-2], Damaged, "whole numbers"),
        (CFG, b"", Damaged, "0 bytes"),
        ("width=3", weights(), Damaged, "line 1"),
        ("[convolutional]\nfilters=3", weights(), Damaged, "no \\[net\\] section"),
        ("[net]\n[lstm]\n", weights(), Unsupported, "layer 0 is of kind lstm"),
    ],
)
def test_bad_files(cfg, data, error, message):
    with pytest.raises(error, match=message):
        darknet.Darknet(cfg, data)


def test_unknown_split(pictures):
    with pytest.raises(BadRequest, match="no split 'layer 3'; there are layer 0"):
        darknet.Darknet(CFG, weights()).head(pictures, "layer 3")


def test_the_known_mistake_in_the_anchors_is_put_right(tmp_path):
    cfg = "[net]\n[yolo]\nmask = 3,4,5\n[yolo]\nmask = 0,1,2\n"
    (tmp_path / "yolov3-tiny.cfg").write_text(cfg)
    (tmp_path / "yolov3-tiny.weights").write_bytes(weights(0))
    network = darknet.load_yolov3_tiny(tmp_path)
    assert [layer.integers("mask") for layer in network.layers] == [[3, 4, 5], [1, 2, 3]]
