"""A model's ONNX graphs as PyTorch computes them, so that gradients flow through what decodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper

from sccodec.errors import WrongModel


class TorchGraph:
    """One ONNX graph of the few operators that `sccodec export` writes.

    Raises WrongModel if the graph cannot be read or has another operator.
    """

    def __init__(self, path: Path):
        try:
            graph = onnx.load(str(path)).graph
        except Exception as error:  # protobuf has an error family of its own
            raise WrongModel(f"model graph {path.name} cannot be loaded: {error}") from None
        self._known = {
            one.name: torch.from_numpy(numpy_helper.to_array(one).copy())
            for one in graph.initializer
        }
        self._wanted = [one.name for one in graph.output]
        self._nodes: list[tuple[Callable, list[str], str, dict]] = []
        for node in graph.node:
            if node.op_type not in OPERATORS or len(node.output) != 1:
                raise WrongModel(f"model graph {path.name}: operator {node.op_type} is not known")
            how = {one.name: helper.get_attribute_value(one) for one in node.attribute}
            step = (OPERATORS[node.op_type], list(node.input), node.output[0], how)
            if all(name in self._known for name in node.input):
                self._run(self._known, step)  # weights that are cast, once and for all
            else:
                self._nodes.append(step)

    def __call__(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """The outputs by name."""
        values = self._known | inputs
        for step in self._nodes:
            self._run(values, step)
        return {name: values[name] for name in self._wanted}

    @staticmethod
    def _run(values: dict[str, torch.Tensor], step) -> None:
        operator, names, output, how = step
        values[output] = operator(*(values[name] for name in names), **how)


def _cast(x, *, to):
    return x.to({onnx.TensorProto.FLOAT: torch.float32, onnx.TensorProto.INT64: torch.int64}[to])


def _conv(
    x,
    weight,
    bias=None,
    *,
    kernel_shape=None,
    pads=(0, 0),
    strides=(1, 1),
    dilations=(1, 1),
    group=1,
):
    return F.conv2d(x, weight, bias, tuple(strides), tuple(pads[:2]), tuple(dilations), group)


def _slice(x, starts, ends, axes=None):
    axes = range(len(starts)) if axes is None else axes.tolist()
    for axis, start, end in zip(axes, starts.tolist(), ends.tolist(), strict=True):
        length = x.shape[axis]
        first, last = (min(max(at + length * (at < 0), 0), length) for at in (start, end))
        x = x.narrow(axis, first, last - first)
    return x


def _reshape(x, shape):
    kept = [x.shape[n] if side == 0 else side for n, side in enumerate(shape.tolist())]
    return x.reshape(kept)


def _depth_to_space(x, *, blocksize, mode=b"CRD"):
    return F.pixel_shuffle(x, blocksize)


OPERATORS: dict[str, Callable] = {
    "Add": torch.add,
    "Cast": _cast,
    "Clip": torch.clamp,
    "Concat": lambda *parts, axis: torch.cat(parts, axis),
    "Conv": _conv,
    "DepthToSpace": _depth_to_space,
    "Div": torch.div,
    "Identity": lambda x: x,
    "LeakyRelu": lambda x, alpha: F.leaky_relu(x, alpha),
    "MatMul": torch.matmul,
    "Mul": torch.mul,
    "Reshape": _reshape,
    "Shape": lambda x: torch.tensor(x.shape),
    "Slice": _slice,
}
