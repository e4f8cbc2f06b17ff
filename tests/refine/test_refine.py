"""The exported model in PyTorch: what it computes is what the exact path and ONNX Runtime do."""

import numpy as np
import pytest
from conftest import picture

torch = pytest.importorskip("torch", reason="refinement needs the [train] extra")
onnx = pytest.importorskip("onnx", reason="refinement needs the [train] extra")

from sccodec.errors import WrongModel
from sccodec.latents import quantize
from sccodec.latents.quantize import Analysed
from sccodec.latents.worth import worths
from sccodec.refine.graphs import TorchGraph
from sccodec.refine.prior import SmoothPrior, SmoothTables
from sccodec.transform.graphs import Graph

BATCH = np.random.default_rng(1)


def nearest(v):
    return torch.floor(v + 0.5)


def inputs(model):
    """Name of each graph -> arrays that it takes."""
    sizes = np.cumsum([plan.latents for plan in model.layers])
    for n, plan in enumerate(model.layers):
        latents = BATCH.normal(0, 4, (1, sizes[n], 8, 12)).astype(np.float32)
        yield plan.head, {"latents": latents, "steps": np.full((1, n + 1, 8, 12), 0.25, np.float32)}
        if plan.finish:
            yield (
                plan.finish,
                {
                    "plain": BATCH.normal(0, 40, (1, 3, 40, 56)).astype(np.float32),
                    "step": np.array([3.0], np.float32),
                    "mix": BATCH.normal(0, 0.1, (3, plan.bends, 1, 1)).astype(np.float32),
                    "straight": BATCH.normal(0, 0.1, (3, 3, 3, 3)).astype(np.float32),
                },
            )
    yield model.about["analysis"]["graph"], {"pixels": picture(64, 128).transpose(2, 0, 1)[None]}


def test_graphs_give_what_onnx_runtime_gives(tiny_model):
    for name, arrays in inputs(tiny_model):
        arrays = {k: np.float32(v) for k, v in arrays.items()}
        expected = Graph(tiny_model.folder / name, 0).run(**arrays)
        found = TorchGraph(tiny_model.folder / name)(
            **{k: torch.from_numpy(v) for k, v in arrays.items()}
        )
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_allclose(found[key].numpy(), value, atol=2e-3, rtol=1e-4)


def test_what_is_no_graph_or_has_unknown_operators_is_refused(tmp_path):
    path = tmp_path / "some.onnx"
    path.write_bytes(b"\xff\xff none")
    with pytest.raises(WrongModel, match=r"some\.onnx cannot be loaded"):
        TorchGraph(path)
    node = onnx.helper.make_node("Sin", ["x"], ["y"])
    value = onnx.helper.make_tensor_value_info
    ends = [[value(name, onnx.TensorProto.FLOAT, [1])] for name in "xy"]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", *ends)), str(path))
    with pytest.raises(WrongModel, match=r"some\.onnx: operator Sin is not known"):
        TorchGraph(path)


def test_whole_symbols_cost_what_the_tables_say(tiny_model):
    smooth = SmoothTables(tiny_model.tables)
    symbols = np.arange(-20, 21)
    for t in (0, 5, len(tiny_model.tables) - 1):
        index = np.full(len(symbols), t)
        at = smooth.index(torch.full((41,), tiny_model.tables.smallest + t / 8.0))
        found = smooth.bits(torch.from_numpy(symbols).float(), at)
        np.testing.assert_allclose(found, tiny_model.tables.bits(symbols, index), rtol=1e-4)


def test_between_them_bits_are_interpolated_with_the_gradient_of_that(tiny_model):
    smooth = SmoothTables(tiny_model.tables)
    symbol = torch.tensor([1.25], requires_grad=True)
    scale = torch.tensor([0.55], requires_grad=True)
    bits = smooth.bits(symbol, smooth.index(scale))
    bits.sum().backward()
    at = smooth.index(scale.detach())
    one, two = (smooth.bits(torch.tensor([float(v)]), at) for v in (1, 2))
    assert bits.item() == pytest.approx((0.75 * one + 0.25 * two).item(), rel=1e-5)
    assert symbol.grad.item() == pytest.approx((two - one).item(), rel=1e-4)
    more = smooth.bits(symbol.detach(), smooth.index(scale.detach() + 0.01))
    assert scale.grad.item() == pytest.approx((more - bits).item() / 0.01, rel=1e-2)


@pytest.mark.parametrize("step", [240, 290, 340])
def test_the_smooth_prior_codes_as_the_exact_one_does(tiny_model, step):
    tables = SmoothTables(tiny_model.tables)
    lower = smooth_lower = None
    for plan, exact in zip(tiny_model.layers, tiny_model.priors, strict=True):
        y = BATCH.normal(0, 5, (plan.latents, 16, 24)).astype(np.float32)
        z = BATCH.normal(0, 2, (plan.hyper, 4, 6)).astype(np.float32)
        chooser, coded = quantize.choose(exact, Analysed(y, z), step, lower)
        bits, latent, _ = SmoothPrior(exact, tables)(
            torch.from_numpy(y)[None], torch.from_numpy(z)[None], smooth_lower, step, nearest
        )
        assert bits.item() == pytest.approx(chooser.bits, rel=0.02)
        # A mean that is rounded otherwise may turn a symbol into its neighbour, and the next mean.
        distance = np.abs(latent[0].numpy() - coded.latent)
        assert np.median(distance) < 0.05 * 2 ** ((step - 256) / 32)
        lower = coded.seen
        smooth_lower = torch.from_numpy(coded.seen / 4096).float()[None]


def test_a_layer_below_counts_little_and_never_as_at_fine_steps():
    assert worths([4.5, 4]) == pytest.approx([0.1 * 0.18 / 16, 0.18 / 16])
    assert worths([1.5, 1]) == pytest.approx([0.1 * 0.18 / 16, 0.18])
    assert worths([17, 16]) == pytest.approx([0.1 * 0.18 / 256, 0.18 / 256])
