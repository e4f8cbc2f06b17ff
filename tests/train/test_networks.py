"""The networks' own layers do what PyTorch's do."""

import pytest

torch = pytest.importorskip("torch", reason="training needs the [train] extra")

from sccodec.train.networks import Pointwise


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_pointwise_layer_is_a_convolution_with_kernels_of_one_pixel(bias, layout):
    torch.manual_seed(1)
    layer = Pointwise(5, 7, bias)
    x = torch.randn(2, 5, 4, 3).contiguous(memory_format=layout).requires_grad_()
    parameters = [x, *layer.parameters()]
    wanted = torch.nn.functional.conv2d(x, layer.weight, layer.bias)
    found = layer(x)
    torch.testing.assert_close(found, wanted)
    toward = torch.randn_like(wanted)
    for one, other in zip(
        torch.autograd.grad(found, parameters, toward),
        torch.autograd.grad(wanted, parameters, toward),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
