"""Training on a GPU: a step as one CUDA graph, thousands of small kernels without a launch each."""

from __future__ import annotations

import contextlib

import torch
from torch import nn

from sccodec.train.networks import Bricks, Pass
from sccodec.train.prior import ContextStep, Quantiser

WARM_UP = 3  # runs in which libraries choose their algorithms
RENEW = 40  # steps after which SOAP's eigenbases follow; there it takes as long as seven steps
KINDS = 64  # compiled forms of one function, one for each size of its tensors


class Recorded:
    """Calls `step(*inputs)` as it was once recorded.

    `step` takes and gives CUDA tensors of fixed shapes, and must not wait for the device. Inputs
    are copied to where those of the recording lie; the next call overwrites what one gives.
    """

    def __init__(self, step, inputs):
        self.inputs = [value.clone() for value in inputs]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                step(*self.inputs)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.given = step(*self.inputs)

    def __call__(self, *inputs):
        for here, value in zip(self.inputs, inputs, strict=True):
            here.copy_(value)
        self.graph.replay()
        return self.given


def compile_parts(model: nn.Module) -> None:
    """Compiles the parts that repeat, so that what surrounds their products is fused.

    Takes a minute or two, and a sixth off the time of a step.
    """
    torch._dynamo.config.recompile_limit = KINDS
    for part in model.modules():
        if isinstance(part, Bricks):
            for brick in part:
                brick.compile(dynamic=False)
        elif isinstance(part, (ContextStep, Pass)):
            part.compile(dynamic=False)
        elif isinstance(part, Quantiser):
            part.bits = torch.compile(part.bits, dynamic=False)


@contextlib.contextmanager
def precisely():
    """Products of float32 in float32; training is content with TensorFloat-32."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
