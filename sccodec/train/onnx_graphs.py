"""Writes trained transforms as ONNX graphs, by hand: a dozen node kinds, float16 weights.

Fixed linear parts (wavelet, scaling) are folded into the convolutions beside them, so the
graphs hold only 1x1, 2x2 and depthwise convolutions, channel shuffles, and the matrices of the
lapped transform.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from sccodec.train.networks import (
    BENDS,
    BLOCK,
    LOW,
    SLOPE,
    Analysis,
    BaseSynthesis,
    Brick,
    Down,
    Finish,
    HyperAnalysis,
    Lap,
    Pass,
    Quick,
    Synthesis,
)
from sccodec.train.wavelet import COLOURS

OPSET = 17
END = 2**31 - 1  # of an axis, however long
FINISH_INPUTS = {
    "plain": [1, COLOURS, "H", "W"],
    "step": [1],
    "mix": [COLOURS, BENDS, 1, 1],
    "straight": [COLOURS, COLOURS, 3, 3],
}
SIGNS = "signs."  # what names of values that are bool begin with
SHARED = 1024  # bytes of a weight from which on a graph looks it up in another
UNCLIPPED = 2.0**-16  # brings pixels, in steps, far below 1


class Builder:
    """Collects nodes and weights of one graph; every method returns an output's name."""

    def __init__(self, name: str):
        self.name, self.nodes, self.weights, self.count = name, [], [], 0

    def node(self, kind: str, *inputs: str, **attributes) -> str:
        self.count += 1
        out = f"v{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def weight(self, value: torch.Tensor | np.ndarray) -> str:
        """A constant, stored as float16 and widened when the graph is loaded."""
        array = np.asarray(value.detach().cpu() if torch.is_tensor(value) else value)
        self.count += 1
        stored = f"w{self.count}"
        half = array.astype(np.float16)
        if not np.isfinite(half).all():
            raise ValueError(f"{self.name}: a weight does not fit float16")
        self.weights.append(numpy_helper.from_array(half, stored))
        return self.node("Cast", stored, to=TensorProto.FLOAT)

    def conv(self, x: str, weight, bias=None, *, groups: int = 1, stride: int = 1) -> str:
        kernel = weight.shape[2]
        inputs = [x, self.weight(weight)]
        if bias is not None:
            inputs.append(self.weight(bias))
        return self.convolved(inputs, kernel, groups, stride)

    def convolved(self, inputs: list[str], kernel: int, groups: int = 1, stride: int = 1) -> str:
        """A convolution of `inputs`: what is filtered, the weight, and perhaps the bias."""
        return self.node(
            "Conv",
            *inputs,
            group=groups,
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[kernel // 2 if groups > 1 else 0] * 4,
        )

    def layer(self, x: str, conv: torch.nn.Conv2d) -> str:
        return self.conv(x, conv.weight, conv.bias, groups=conv.groups, stride=conv.stride[0])

    def act(self, x: str) -> str:
        return self.node("LeakyRelu", x, alpha=SLOPE)

    def add(self, a: str, b: str) -> str:
        return self.node("Add", a, b)

    def shuffle(self, x: str, factor: int) -> str:
        return self.node("DepthToSpace", x, blocksize=factor, mode="CRD")

    def brick(self, x: str, brick: Brick, bent: list[str] | None = None) -> str:
        """`bent` is told what the two activations give."""
        u = self.act(self.layer(x, brick.enter))
        x = self.add(x, self.layer(self.layer(u, brick.spread), brick.leave))
        v = self.act(self.layer(x, brick.widen))
        if bent is not None:
            bent += [u, v]
        return self.add(x, self.layer(v, brick.narrow))

    def bricks(self, x: str, stack, bent: list[str] | None = None) -> str:
        for brick in stack:
            x = self.brick(x, brick, bent)
        return x

    # Adjoints: from the gradient by what a layer gives, that by what it was given.

    def turned(self, weight: torch.Tensor) -> str:
        """The weight of a 1x1 convolution, for its adjoint. Turned when the graph is loaded."""
        return self.node("Transpose", self.weight(weight), perm=[1, 0, 2, 3])

    def pointwise_back(self, slope: str, weight: torch.Tensor) -> str:
        return self.convolved([slope, self.turned(weight)], 1)

    def shuffled_back(self, slope: str, weight: torch.Tensor, factor: int) -> str:
        """Of a 1x1 convolution whose result is shuffled: one convolution with a stride."""
        n_out, n_in = weight.shape[:2]
        sizes = self.whole(n_in, n_out // factor**2, factor, factor)
        turned = self.node("Reshape", self.turned(weight), sizes)
        return self.convolved([slope, turned], factor, stride=factor)

    def strided_back(self, slope: str, weight: torch.Tensor) -> str:
        """Of a convolution whose stride is its size: a 1x1 convolution that is shuffled."""
        n_out, factor = weight.shape[0], weight.shape[2]
        flat = self.node("Reshape", self.weight(weight), self.whole(n_out, -1, 1, 1))
        turned = self.node("Transpose", flat, perm=[1, 0, 2, 3])
        return self.shuffle(self.convolved([slope, turned], 1), factor)

    def act_back(self, slope: str, sign: str) -> str:
        """`sign`: bool, whether the activation gave something positive."""
        number = self.node("Cast", sign, to=TensorProto.FLOAT)
        limits = self.exact(np.float32(SLOPE)), self.exact(np.float32(1))
        return self.node("Mul", slope, self.node("Clip", number, *limits))

    def bricks_back(self, slope: str, stack, signs: list[str]) -> str:
        for brick, u, v in zip(reversed(stack), signs[-2::-2], signs[::-2], strict=True):
            back = self.act_back(self.pointwise_back(slope, brick.narrow.weight), v)
            slope = self.add(slope, self.pointwise_back(back, brick.widen.weight))
            back = self.pointwise_back(slope, brick.leave.weight)
            spread = brick.spread
            back = self.conv(back, spread.weight.flip((2, 3)), groups=spread.groups)
            back = self.act_back(back, u)
            slope = self.add(slope, self.pointwise_back(back, brick.enter.weight))
        return slope

    def exact(self, value: np.ndarray) -> str:
        """A constant as it is."""
        self.count += 1
        name = f"w{self.count}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def whole(self, *numbers: int) -> str:
        return self.exact(np.array(numbers, np.int64))

    def lap(self, pixels: str, matrix: torch.Tensor) -> str:
        """`Lap.forward` with its matrix (16, 16), which stays float32, so that it can be undone."""
        values, size = matrix.numpy(), self.node("Shape", pixels)
        rows = self._across_edges(pixels, 2, size, values)
        return self._across_edges(rows, 3, size, values.T)

    def _across_edges(self, x: str, axis: int, size: str, matrix: np.ndarray) -> str:
        """Applies the matrix to the rows (axis 2) or columns (3) across every inner edge."""
        half, along = BLOCK // 2, self.whole(axis)
        first, inner, last = (
            self.node("Slice", x, self.whole(begin), self.whole(end), along)
            for begin, end in ((0, half), (half, -half), (-half, END))
        )
        other = self.node("Slice", size, self.whole(5 - axis), self.whole(6 - axis))
        if axis == 2:  # (3, blocks, 16, W)
            blocks = [self.whole(COLOURS, -1, BLOCK), other]
            back = [self.whole(1, COLOURS, -1), other]
        else:  # (3, H * blocks, 16)
            blocks = [self.whole(COLOURS, -1, BLOCK)]
            back = [self.whole(1, COLOURS), other, self.whole(-1)]
        inner = self.node("Reshape", inner, self.node("Concat", *blocks, axis=0))
        factors = (self.exact(matrix), inner)
        inner = self.node("MatMul", *(factors if axis == 2 else factors[::-1]))
        inner = self.node("Reshape", inner, self.node("Concat", *back, axis=0))
        return self.node("Concat", first, inner, last, axis=axis)

    def save(
        self,
        path: Path,
        inputs: dict[str, list],
        outputs: dict[str, str],
        shared: Path | None = None,
    ) -> None:
        """`inputs`: name -> shape; `outputs`: public name -> value.

        What is in the graph `shared`, in the same folder, is not stored again but looked up there.
        """
        public = {value: name for name, value in outputs.items()}
        for node in self.nodes:  # a node Identity in place of this would copy the values
            for names in (node.input, node.output):
                names[:] = [public.get(name, name) for name in names]

        def info(name, shape):
            kind = TensorProto.BOOL if name.startswith(SIGNS) else TensorProto.FLOAT
            return helper.make_tensor_value_info(name, kind, shape)

        nodes, used = self._needed(set(outputs))
        graph = helper.make_graph(
            nodes,
            self.name,
            [info(name, shape) for name, shape in inputs.items()],
            [info(name, [None] * 4) for name in outputs],
            [weight for weight in self.weights if weight.name in used],
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=8,
            producer_name="sccodec",
        )
        onnx.checker.check_model(model)
        if shared is not None:
            _look_up(model.graph.initializer, shared)
        path.write_bytes(model.SerializeToString(deterministic=True))

    def _needed(self, wanted: set[str]) -> tuple[list, set[str]]:
        """The nodes that `wanted` values take, and the names of all values."""
        nodes = []
        for node in reversed(self.nodes):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                nodes.append(node)
        return nodes[::-1], wanted


def _look_up(weights, shared: Path) -> None:
    """Replaces the values of large weights by where a file has the same bytes."""
    there = shared.read_bytes()
    for weight in weights:
        at = there.find(weight.raw_data) if len(weight.raw_data) >= SHARED else -1
        if at >= 0:
            place = {"location": shared.name, "offset": at, "length": len(weight.raw_data)}
            weight.ClearField("raw_data")
            weight.data_location = TensorProto.EXTERNAL
            for key, value in place.items():
                weight.external_data.add(key=key, value=str(value))


def scaled(conv: torch.nn.Conv2d, unit: torch.Tensor) -> torch.Tensor:
    """The weight of a convolution whose inputs would be multiplied by `unit` first."""
    weight = conv.weight.clone()
    weight[:, : len(unit)] *= unit[None, :, None, None]
    return weight


def block_filters(conv: torch.nn.Conv2d, kernel: torch.Tensor) -> torch.Tensor:
    """A 1x1 convolution of 4x4 unshuffled bands, as a 16x16 stride-16 filter of pixels.

    conv.weight (O, B * 16, 1, 1); kernel (B, 3, 4, 4) -> (O, 3, 16, 16).
    """
    out, bands = conv.weight.shape[0], len(kernel)
    weight = conv.weight.reshape(out, bands, 4, 4)
    blocks = torch.einsum("obij,bcyx->ociyjx", weight, kernel)
    return blocks.reshape(out, 3, 16, 16)


def _at_8(b: Builder, pixels: str, down: Down, net: Analysis | Synthesis) -> str:
    """What a `Down` makes of scaled bands."""
    return b.conv(pixels, _weight_at_8(down, net), down.conv.bias, stride=8)


def _weight_at_8(down: Down, net: Analysis | Synthesis) -> torch.Tensor:
    """2x2 of these become one 8x8 filter of pixels."""
    weight = torch.einsum("obij,bcyx->ociyjx", scaled(down.conv, net.band_scale), net.kernel)
    return weight.reshape(len(weight), 3, 8, 8)


def analysis_graph(net: Analysis, lap: Lap, path: Path, quick: Quick | None = None) -> None:
    """The analysis; that with the bricks `quick` beside it, `path` having the weights of both."""
    b, kernel, bricks = Builder("analysis"), net.kernel, quick or net
    pixels = b.lap("pixels", lap.matrix())
    y_base = b.conv(pixels, block_filters(net.base_linear, kernel[:3]), stride=16)
    low_in = torch.nn.Conv2d(LOW, net.base_in.out_channels, 1)
    low_in.weight.copy_(scaled(net.base_in, net.band_scale[:3].repeat_interleave(16)))
    u = b.conv(pixels, block_filters(low_in, kernel[:3]), net.base_in.bias, stride=16)
    y_base = b.add(y_base, b.layer(b.bricks(u, net.base_bricks), net.base_out))
    u = b.bricks(_at_8(b, pixels, bricks.enter, net), bricks.bricks8)
    y = b.conv(pixels, block_filters(net.linear, kernel[3:]), stride=16)
    down = bricks.down.conv
    v = b.bricks(b.layer(u, down), bricks.bricks16)
    at_16, at_8 = bricks.leave.weight.split([down.out_channels, 4 * down.in_channels], 1)
    y = b.add(y, b.conv(v, at_16, bricks.leave.bias))
    y = b.add(y, b.conv(u, at_8.reshape(len(at_8), -1, 2, 2), stride=2))
    outputs = {
        "base.y": y_base,
        "enhancement.y": y,
        "base.z": hyper_analysis(b, y_base, net.base_hyper),
        "enhancement.z": hyper_analysis(b, y, net.hyper),
    }
    inputs = {"pixels": [1, 3, "H", "W"]}
    if quick is None:
        b.save(path, inputs, outputs)
    else:
        b.save(path.with_suffix(".quick.onnx"), inputs, outputs, path)


def hyper_analysis(b: Builder, y: str, net: HyperAnalysis) -> str:
    u = b.act(b.conv(y, scaled(net.enter, net.unit), net.enter.bias))

    def down(x: str, layer: Down) -> str:
        return b.layer(x, layer.conv)

    u = b.act(b.brick(down(u, net.down1), net.brick))
    return b.layer(b.act(down(u, net.down2)), net.leave)


def to_pixels(weight: torch.Tensor, kernel: torch.Tensor, cells: int) -> torch.Tensor:
    """A 1x1 layer that gives `cells` x `cells` shuffled bands, made to give shuffled pixels.

    weight (48 * cells^2, I); kernel (48, 3, 4, 4) -> (3 * (4 cells)^2, I).
    """
    bands, inputs = len(kernel), weight.shape[1]
    weight = weight.reshape(bands, cells, cells, inputs)
    pixels = torch.einsum("bijn,bcyx->ciyjxn", weight, kernel)
    return pixels.reshape(3 * (4 * cells) ** 2, inputs)


def _pixel_weight(weight: torch.Tensor, kernel, cells: int) -> torch.Tensor:
    return to_pixels(weight.flatten(1), kernel, cells)[:, :, None, None]


def _pixel_layer(b: Builder, x: str, conv, kernel, cells: int, weight=None) -> str:
    weight = _pixel_weight(conv.weight if weight is None else weight, kernel, cells)
    bias = None if conv.bias is None else to_pixels(conv.bias[:, None], kernel, cells)[:, 0]
    return b.shuffle(b.conv(x, weight, bias), 4 * cells)


def base_graph(net: BaseSynthesis, lap: Lap, path: Path) -> None:
    """The synthesis, and beside it that which tells signs too."""
    for told in (False, True):
        b, bent = Builder("base"), []
        enter = scaled(net.enter, net.unit)
        u = b.node("Concat", "latents", "steps", axis=1)
        u = b.bricks(b.conv(u, enter, net.enter.bias), net.bricks, bent)
        pixels = b.add(
            _pixel_layer(b, "latents", net.linear, net.kernel, 4, _all_bands(net)),
            _pixel_layer(b, u, net.leave, net.kernel, 4),
        )
        _save_synthesis(b, lap, path, net.linear.in_channels, 1, pixels, bent if told else None)


def _all_bands(net: BaseSynthesis) -> torch.Tensor:
    """The linear path, which makes the low band alone, with nothing for the others."""
    linear = torch.zeros(net.leave.out_channels, net.linear.in_channels, 1, 1)
    linear[:LOW] = net.linear.weight
    return linear


def base_gradient(net: BaseSynthesis, lap: Lap, forward: Path) -> None:
    """`slope`, the gradient of a cost by pixels of `base_graph`, and signs -> that by its latents.

    `forward`: that graph, beside which this one is written.
    """
    b, signs = Builder("base.gradient"), _signs(net.bricks)
    slope = _slope(b, lap)
    back = b.shuffled_back(slope, _pixel_weight(net.leave.weight, net.kernel, 4), 16)
    back = b.bricks_back(back, net.bricks, signs)
    direct = b.shuffled_back(slope, _pixel_weight(_all_bands(net), net.kernel, 4), 16)
    _save_gradient(b, forward, direct, back, net, signs)


def full_graph(net: Synthesis, lap: Lap, path: Path) -> None:
    """The synthesis, and beside it that which tells signs too."""
    for told in (False, True):
        b, bent = Builder("enhancement"), []
        u = b.node("Concat", "latents", "steps", axis=1)
        u = b.bricks(b.conv(u, scaled(net.enter, net.unit), net.enter.bias), net.bricks16, bent)
        plain = _pixel_layer(b, "latents", net.linear, net.kernel, 4)
        u = b.add(b.shuffle(b.layer(u, net.up), 2), _at_8(b, plain, net.see, net))
        u = b.bricks(u, net.bricks8, bent)
        pixels = b.add(plain, _pixel_layer(b, u, net.leave, net.kernel, 2))
        _save_synthesis(b, lap, path, net.linear.in_channels, 2, pixels, bent if told else None)


def full_gradient(net: Synthesis, lap: Lap, forward: Path) -> None:
    """`slope`, the gradient of a cost by pixels of `full_graph`, and signs -> that by its latents.

    `forward`: that graph, beside which this one is written.
    """
    b, signs = Builder("enhancement.gradient"), _signs(net.bricks16, net.bricks8)
    at_16 = 2 * len(net.bricks16)
    slope = _slope(b, lap)
    back = b.shuffled_back(slope, _pixel_weight(net.leave.weight, net.kernel, 2), 8)
    back = b.bricks_back(back, net.bricks8, signs[at_16:])
    slope = b.add(slope, b.strided_back(back, _weight_at_8(net.see, net)))
    direct = b.shuffled_back(slope, _pixel_weight(net.linear.weight, net.kernel, 4), 16)
    back = b.shuffled_back(back, net.up.weight, 2)
    back = b.bricks_back(back, net.bricks16, signs[:at_16])
    _save_gradient(b, forward, direct, back, net, signs)


def _signs(*stacks) -> list[str]:
    """Names of what the activations' signs are told as, two for each brick."""
    return [f"{SIGNS}{n}" for n in range(2 * sum(map(len, stacks)))]


def _gradient_of(forward: Path) -> Path:
    return forward.with_suffix(".gradient.onnx")


def _slope(b: Builder, lap: Lap) -> str:
    """The gradient by the pixels in front of the lapped transform."""
    return b.lap("slope", lap.matrix(undo=True).T)


def _save_gradient(b: Builder, forward: Path, direct, back, net, signs: list[str]) -> None:
    """`direct`: the gradient by what the linear path does; `back`: that by what `enter` gives."""
    turned = b.turned(scaled(net.enter, net.unit))
    latents = b.whole(net.linear.in_channels)
    turned = b.node("Slice", turned, b.whole(0), latents, b.whole(0))
    gradient = b.add(direct, b.convolved([back, turned], 1))
    inputs = {"slope": [1, COLOURS, "H", "W"]} | {name: [None] * 4 for name in signs}
    b.save(_gradient_of(forward), inputs, {"gradient": gradient}, forward)


def finish_graph(net: Finish, path: Path) -> None:
    """The finish, on pixels and those around them, with what a tile adds to the last pass.

    All is in units of the step: the first filters divide by it, and the last mix multiplies. A pass
    is one convolution for clipped and linear filters, a clip, and a mix: what the linear ones and
    the pixel itself give is made so small that nothing of it is clipped, by a power of two, which
    costs no precision. The few weights stay float32: rounded ones would not be blind to constants.
    The filters of both passes depend on inputs: ONNX Runtime would apply constant ones in blocks of
    channels, which takes twice the time for so few.
    """
    b = Builder("finish")
    pixels = "plain"
    for one in net:
        near = pixels
        filters, mix = _pass(b, one, net)
        bent = b.node("Conv", near, filters, dilations=[one.dilation] * 2)
        bent = b.node("Clip", bent, *_limits(b))
        pixels = b.node("Conv", bent, mix)
    b.save(path, FINISH_INPUTS, {"pixels": pixels, "near": near, "bent": bent})


def finish_gradient(net: Finish, forward: Path) -> None:
    """`slope`, the gradient of a cost by the pixels of `finish_graph` -> that by what it is given.

    Both (1, 3, H, W); that has as many pixels more around it.
    """
    b, seen = Builder("finish.gradient"), []
    pixels = "plain"
    for one in net:
        filters, mix = _pass(b, one, net)
        bent = b.node("Conv", pixels, filters, dilations=[one.dilation] * 2)
        clipped = b.node("Clip", bent, *_limits(b))
        seen.append((one, filters, mix, b.node("Equal", bent, clipped)))
        if one is not net[-1]:
            pixels = b.node("Conv", clipped, mix)
    slope = "slope"
    for one, filters, mix, free in reversed(seen):
        back = b.node("Conv", slope, b.node("Transpose", mix, perm=[1, 0, 2, 3]))
        back = b.node("Mul", back, b.node("Cast", free, to=TensorProto.FLOAT))
        slope = b.node("ConvTranspose", back, filters, dilations=[one.dilation] * 2)
    inputs = FINISH_INPUTS | {"slope": [1, COLOURS, "h", "w"]}
    b.save(_gradient_of(forward), inputs, {"gradient": slope}, forward)


def _limits(b: Builder) -> tuple[str, str]:
    return b.exact(np.float32(-1)), b.exact(np.float32(1))


def _pass(b: Builder, one: Pass, net: Finish) -> tuple[str, str]:
    """Filters (BENDS + 3, 3, 3, 3) and mix (3, BENDS + 3, 1, 1) of a pass."""
    same = np.eye(COLOURS, dtype=np.float32)
    bends, straight = (kernel.numpy().copy() for kernel in one.kernels())
    straight[:, :, 1, 1] += same
    filters = b.exact(np.concatenate([bends, straight * UNCLIPPED]))
    mix = b.exact(np.concatenate([one.mix.numpy(), same / UNCLIPPED], 1)[:, :, None, None])
    if one is net[0]:
        filters = b.node("Div", filters, "step")
    if one is net[-1]:
        small = b.node("Mul", "straight", b.exact(np.float32(UNCLIPPED)))
        filters = b.add(filters, b.node("Concat", b.exact(0 * bends), small, axis=0))
        none = b.exact(np.zeros((COLOURS, COLOURS, 1, 1), np.float32))
        mix = b.add(mix, b.node("Concat", "mix", none, axis=1))
        mix = b.node("Mul", mix, "step")
    return filters, mix


def _save_synthesis(
    b: Builder, lap: Lap, path: Path, latents: int, layers: int, pixels: str, bent: list[str] | None
) -> None:
    """`bent`: what activations give, if their signs are told; the graph's weights lie in `path`."""
    outputs = {"pixels": b.lap(pixels, lap.matrix(undo=True))}
    inputs = {"latents": [1, latents, "h", "w"], "steps": [1, layers, "h", "w"]}
    if bent is None:
        b.save(path, inputs, outputs)
        return
    for n, value in enumerate(bent):
        outputs[f"{SIGNS}{n}"] = b.node("Greater", value, b.exact(np.float32(0)))
    b.save(path.with_suffix(".signs.onnx"), inputs, outputs, path)
