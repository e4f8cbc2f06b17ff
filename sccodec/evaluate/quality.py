"""How near decoded pixels are to the original: PSNR, luma PSNR, MS-SSIM, SSIMULACRA2."""

from __future__ import annotations

import io
import math

import numpy as np

# ITU-R BT.601 luma, full range, as JPEG/JFIF has it.
LUMA = np.array([0.299, 0.587, 0.114])

# Wang, Simoncelli and Bovik 2003, "Multiscale structural similarity for image quality
# assessment": weight of each scale; window and constants as in SSIM.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03
SSIMULACRA2_SIDE = 8  # pixels a side, below which it compares nothing
SMALLEST = (WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1) + 1  # pixels a side: 161


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio over all samples of two uint8 arrays, in dB; inf if equal."""
    return _psnr(a.astype(np.float64) - b)


def luma_psnr(a: np.ndarray, b: np.ndarray) -> float:
    """The same over the luma of (H, W, 3) uint8, which is not rounded."""
    return _psnr((a.astype(np.float64) - b) @ LUMA)


def _psnr(error: np.ndarray) -> float:
    mean = float(np.square(error).mean())
    return 10 * math.log10(255**2 / mean) if mean else math.inf


def ms_ssim(a: np.ndarray, b: np.ndarray) -> float | None:
    """Multiscale SSIM of (H, W, 3) uint8, 0..1: of each RGB channel, then their mean.

    As the pytorch-msssim package computes it, in float64; None below 161 pixels a side, where
    the coarsest scale has no room for the window.
    """
    from scipy.ndimage import correlate1d

    if min(a.shape[:2]) < SMALLEST:
        return None
    at = np.arange(WINDOW) - WINDOW // 2
    window = np.exp(-(at**2) / (2 * SIGMA**2))
    window /= window.sum()
    edge = WINDOW // 2

    def blur(x: np.ndarray) -> np.ndarray:
        """Only where the window lies inside the picture."""
        x = correlate1d(x, window, axis=0)[edge:-edge]
        return correlate1d(x, window, axis=1)[:, edge:-edge]

    x, y = a.astype(np.float64), b.astype(np.float64)
    c1, c2 = (K1 * 255) ** 2, (K2 * 255) ** 2
    result = np.ones(a.shape[2])
    for scale, weight in enumerate(SCALE_WEIGHTS):
        mx, my = blur(x), blur(y)
        vx, vy, vxy = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
        value = (2 * vxy + c2) / (vx + vy + c2)
        if scale == len(SCALE_WEIGHTS) - 1:
            value = value * (2 * mx * my + c1) / (mx * mx + my * my + c1)
        result *= np.maximum(value.mean((0, 1)), 0) ** weight
        x, y = _halved(x), _halved(y)
    return float(result.mean())


def _halved(x: np.ndarray) -> np.ndarray:
    """Means of 2x2 pixels; an odd side is padded with zeros on both ends, as torch's pool does."""
    pad = [(side % 2, side % 2) for side in x.shape[:2]]
    x = np.pad(x, (*pad, (0, 0)))
    x = x[: x.shape[0] // 2 * 2, : x.shape[1] // 2 * 2]
    return (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4


def ms_ssim_db(value: float) -> float:
    """MS-SSIM on the scale that papers plot: -10 log10(1 - value); inf for 1."""
    return -10 * math.log10(1 - value) if value < 1 else math.inf


def ssimulacra2(a: np.ndarray, b: np.ndarray) -> float | None:
    """SSIMULACRA2 by the package of that name, up to 100; None where it is not installed, and
    below 8 pixels a side, where it compares nothing."""
    if min(a.shape[:2]) < SSIMULACRA2_SIDE:
        return None
    try:
        from ssimulacra2 import compute_ssimulacra2
    except ImportError:
        return None
    from PIL import Image

    files = [io.BytesIO(), io.BytesIO()]
    for pixels, file in zip((a, b), files, strict=True):
        Image.fromarray(pixels).save(file, "PPM")
    return float(compute_ssimulacra2(*files))


def measure(original: np.ndarray, decoded: np.ndarray) -> dict[str, float | None]:
    """Every measure; None for one that does not exist here. Equal pixels have no PSNR in JSON."""
    similarity = ms_ssim(original, decoded)
    found = {
        "psnr": psnr(original, decoded),
        "psnr_y": luma_psnr(original, decoded),
        "ms_ssim": similarity,
        "ms_ssim_db": None if similarity is None else ms_ssim_db(similarity),
        "ssimulacra2": ssimulacra2(original, decoded),
    }
    return {name: finite(value) for name, value in found.items()}


def finite(value: float | None) -> float | None:
    """The value, or None for infinity, which JSON has no word for."""
    return value if value is not None and math.isfinite(value) else None
