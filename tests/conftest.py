"""The tiny model for every test, also in child processes, and pictures to code."""

from __future__ import annotations

from own_core import CORES

# isort: split
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from sccodec import threads

# A busy machine is slow, and nothing is wrong with it.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

MODELS = Path(__file__).parent / "models"


@pytest.fixture
def all_cores():
    """Lets threads and processes that a test starts use every core."""
    if not CORES:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CORES)
    threads._helpers.cache_clear()  # those of the tests before keep to one core
    yield
    threads._helpers.cache_clear()
    os.sched_setaffinity(0, before)


def picture(height: int, width: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    """(height, width, channels) uint8 with what pictures have: gradients, edges, some noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / 64
    planes = []
    for _ in range(channels):
        a, b, c, d = random.uniform(-1, 1, 4)
        planes.append(110 + 40 * (a * y + b * x) + 25 * np.sin(3 * c * x + 5 * d * y))
    image = np.stack(planes, -1)
    for _ in range(4):
        top, left = random.integers(0, height), random.integers(0, width)
        bottom, right = top + random.integers(8, 60), left + random.integers(8, 60)
        image[top:bottom, left:right] += random.uniform(-60, 60, channels)
    image += random.normal(0, 2, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session", autouse=True)
def tiny_model():
    """The model of tests/models, which SCCODEC_MODELS names for this session."""
    before = os.environ.get("SCCODEC_MODELS")
    os.environ["SCCODEC_MODELS"] = str(MODELS)
    from sccodec.profiles.registry import find

    yield find("tiny-1")
    if before is None:
        del os.environ["SCCODEC_MODELS"]
    else:
        os.environ["SCCODEC_MODELS"] = before
