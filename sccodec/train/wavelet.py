"""The wavelet front end: a two-level orthonormal Haar transform on 4x4 pixels.

Sixteen coefficients a block and colour. Coefficient 0 is the low band (what the base layer
may see), 1..3 the second-level details, 4..15 the first-level details (what the enhancement
layer is for). Orthonormal: squared error in coefficients is squared error in pixels.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

BLOCK = 4
COLOURS = 3
BANDS = BLOCK * BLOCK


def haar_matrix() -> np.ndarray:
    """(16, 16) float64 orthonormal: coefficients = matrix @ block.reshape(16)."""
    low, high = np.array([1.0, 1.0]) / np.sqrt(2), np.array([1.0, -1.0]) / np.sqrt(2)
    kinds = [(low, low), (low, high), (high, low), (high, high)]
    average = np.outer(low, low)
    rows = [np.kron(np.outer(a, b), average) for a, b in kinds]
    for a, b in kinds[1:]:
        for cell in range(4):
            place = np.zeros(4)
            place[cell] = 1
            rows.append(np.kron(place.reshape(2, 2), np.outer(a, b)))
    return np.stack([row.reshape(-1) for row in rows])


def filters() -> np.ndarray:
    """(48, 3, 4, 4) float32 stride-4 convolution: band-major, so channels 0..2 are the low band."""
    kernel = np.zeros((BANDS, COLOURS, COLOURS, BLOCK, BLOCK))
    for band, row in enumerate(haar_matrix()):
        for colour in range(COLOURS):
            kernel[band, colour, colour] = row.reshape(BLOCK, BLOCK)
    return kernel.reshape(BANDS * COLOURS, COLOURS, BLOCK, BLOCK).astype(np.float32)


def forward(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) pixels -> (N, 48, H/4, W/4) coefficients."""
    return F.conv2d(x, kernel, stride=BLOCK)


def inverse(c: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """(N, 48, H/4, W/4) coefficients -> (N, 3, H, W) pixels."""
    return F.conv_transpose2d(c, kernel, stride=BLOCK)
