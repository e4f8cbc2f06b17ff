"""Coefficients to payloads and back, and what choosing them costs and saves."""

import numpy as np
import pytest

from sccodec.entropy import bands
from sccodec.entropy.flags import grouped
from sccodec.errors import Damaged

SHAPE = (9, 3, 4, 2, 5)


def coefficients(seed=0, large=3.0) -> np.ndarray:
    """(9, 12, 10): small at high frequencies, in places where all planes are small, and in some
    planes."""
    random = np.random.default_rng(seed)
    planes, h, rows, w, columns = SHAPE
    size = large / (1 + np.arange(rows)[:, None, None] + np.arange(columns))
    size = size * random.gamma(1, size=(planes, 1, 1, 1, 1)) * random.gamma(2, size=(h, 1, w, 1))
    return (random.laplace(size=SHAPE) * size).reshape(planes, h * rows, w * columns)


@pytest.mark.parametrize("large", [0.2, 3.0, 1e4, 1e7])
def test_what_is_chosen_comes_back(large):
    values = coefficients(large=large)
    chosen = bands.choose(SHAPE, values, 0.1)
    payload = bands.encode(SHAPE, chosen.numbers)
    np.testing.assert_array_equal(bands.decode(SHAPE, payload), chosen.numbers)
    assert 8 * len(payload) == pytest.approx(chosen.bits, rel=0.02, abs=70)
    near = np.minimum(np.abs(values), bands.LARGEST) - np.abs(chosen.numbers)
    assert -0.5 <= near.min() <= near.max() < 2.5
    assert (values * chosen.numbers >= 0).all()


def test_dear_bits_make_coefficients_smaller():
    values = coefficients()
    cheap, dear = (bands.choose(SHAPE, values, lagrangian) for lagrangian in (0.0, 0.2))
    np.testing.assert_array_equal(cheap.numbers, np.rint(values))
    assert dear.bits < 0.9 * cheap.bits
    assert (np.abs(dear.numbers) <= np.abs(cheap.numbers)).all()


def test_sums_of_many_planes_do_not_wrap():
    """Beyond 1,118,481 planes of large numbers 32 bits would."""
    planes = 1_200_000
    shape = (planes, 1, 3, 1, 1)
    numbers = np.full((planes, 3, 1), bands.SEEN, np.int32)
    met = []

    class Known(bands._Known):
        def round(self, codes, place, which, context):
            met.append(set(context.tolist()))
            return super().round(codes, place, which, context)

    bands.Walk(shape).run(Known(shape, numbers, grouped))
    many, met = met, []
    bands.Walk((8, *shape[1:])).run(Known((8, *shape[1:]), numbers[:8], grouped))
    assert many == met  # of planes that are all alike it is the same, however many there are


def test_bytes_that_are_no_payload_are_damage():
    payload = bands.encode(SHAPE, bands.choose(SHAPE, coefficients(), 0.1).numbers)
    for damaged in (payload + bytes(4), payload[:-1], payload + b"\1\0\0\0"):
        with pytest.raises(Damaged):
            bands.decode(SHAPE, damaged)
    with pytest.raises(Damaged):
        bands.decode((0, 1, 4, 1, 4), payload)
    assert bands.decode((0, 1, 4, 1, 4), b"").shape == (0, 4, 4)
