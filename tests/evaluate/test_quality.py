"""Measures of quality against hand-computed values and a reference package."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from conftest import picture

from sccodec.evaluate import quality

pytest.importorskip("scipy", reason="the [eval] extra is not installed")


def noisy(pixels: np.ndarray, amount: int, seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-amount, amount + 1, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def test_psnr_by_hand():
    a = np.zeros((2, 2, 3), np.uint8)
    b = a.copy()
    b[0, 0, 1] = 12  # a squared error of 144 over 12 samples
    assert quality.psnr(a, b) == pytest.approx(10 * math.log10(255**2 / 12))
    assert quality.psnr(b, a) == quality.psnr(a, b)  # nothing wraps around
    # Luma of that sample is 0.587 * 12, over 4 pixels.
    assert quality.luma_psnr(a, b) == pytest.approx(10 * math.log10(255**2 / (7.044**2 / 4)))
    assert quality.psnr(a, a) == quality.luma_psnr(a, a) == math.inf


@pytest.mark.parametrize(
    ("height", "width"), [(192, 256), (161, 161), (163, 175), (321, 200), (162, 330)]
)
def test_ms_ssim_is_that_of_the_reference_package(height, width):
    """Its window has float32 weights, hence the tolerance."""
    torch = pytest.importorskip("torch")
    reference = pytest.importorskip("pytorch_msssim")
    a = picture(height, width)
    for amount in (3, 40):
        b = noisy(a, amount)
        tensors = [torch.tensor(x).permute(2, 0, 1)[None].double() for x in (a, b)]
        expected = float(reference.ms_ssim(*tensors, data_range=255))
        assert quality.ms_ssim(a, b) == pytest.approx(expected, abs=1e-5)


def test_ms_ssim_of_equal_and_of_small_pictures():
    a = picture(192, 256)
    assert quality.ms_ssim(a, a) == pytest.approx(1)
    assert quality.ms_ssim(a[:160], a[:160]) is None  # the coarsest scale has no room
    assert quality.ms_ssim_db(0.99) == pytest.approx(20)
    assert quality.ms_ssim_db(1.0) == math.inf


def test_ssimulacra2_falls_with_noise():
    pytest.importorskip("ssimulacra2")
    a = picture(192, 256)
    scores = [quality.ssimulacra2(a, noisy(a, amount)) for amount in (0, 2, 10, 40)]
    assert scores[0] == 100
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < 50


def test_ssimulacra2_of_small_pictures_is_none():
    pytest.importorskip("ssimulacra2")
    a = picture(8, 64)
    assert quality.ssimulacra2(a, 255 - a) is not None
    assert quality.ssimulacra2(a[:7], 255 - a[:7]) is None  # nothing is compared there


def test_every_measure_is_a_number_or_none(monkeypatch):
    a = picture(192, 256)
    assert all(isinstance(value, float) for value in quality.measure(a, noisy(a, 5)).values())
    assert quality.measure(a, a)["psnr"] is None  # JSON has no infinity
    monkeypatch.setitem(sys.modules, "ssimulacra2", None)
    assert quality.measure(a, noisy(a, 5))["ssimulacra2"] is None
