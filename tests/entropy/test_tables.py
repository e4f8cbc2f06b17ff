"""Integer tables: they add up, are chosen by exact arithmetic, and cost what they say."""

import hashlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sccodec.entropy import coder
from sccodec.entropy.tables import STEP_TABLE, STEPS, TOTAL, Tables, log2_step
from sccodec.errors import WrongModel

STEPS_TXT = Path(__file__).parents[2] / "formats" / "steps.txt"


def family(reaches=(1, 3, 10), per_octave=2, smallest=-1) -> Tables:
    """Triangular tables, the escape rare."""
    counts = []
    for reach in reaches:
        weights = [reach + 1 - abs(s) for s in range(-reach, reach + 1)]
        table = [TOTAL * w // (sum(weights) + 1) for w in weights]
        counts += [*table, TOTAL - sum(table)]
    return Tables(np.array(counts, np.uint32), np.array(reaches, np.int32), per_octave, smallest)


def test_the_step_table_is_pinned():
    assert STEP_TABLE.shape == (STEPS,)
    assert [int(STEP_TABLE[i]) for i in (0, 1, 31, 32, 255, 256, 257, 288, 511)] == [
        16, 16, 31, 32, 4008, 4096, 4186, 8192, 1026107,
    ]  # fmt: skip
    digest = hashlib.sha256(STEP_TABLE.astype("<u4").tobytes()).hexdigest()
    assert digest == "9ffc750142df0c1c9d8c8ffd57e4bfc478d4ae9ad29d82401a252ea610220e8b"


def test_every_step_is_the_nearest_integer_to_its_power_of_two():
    for index, step in enumerate(STEP_TABLE):
        # step - 1/2 < 2^(12 + (index - 256) / 32) < step + 1/2, raised to the 32nd power
        power = Fraction(2) ** (12 * 32 + index - 256)
        below, above = (Fraction(2 * int(step) + side, 2) ** 32 for side in (-1, 1))
        assert below < power < above


def test_the_specification_prints_the_same_steps():
    printed = [int(word) for word in STEPS_TXT.read_text().split()]
    assert printed == STEP_TABLE.tolist()


def test_log2_of_a_step_is_exact():
    assert [log2_step(index) for index in (0, 255, 256, 257, 288)] == [-2048, -8, 0, 8, 256]


@given(st.integers(-32512, 32512), st.integers(0, STEPS - 1), st.sampled_from([1, 2, 8, 256]))
def test_the_table_index_is_rational_arithmetic(log2_scale, step, per_octave):
    tables = family(per_octave=per_octave)
    log2_ratio = Fraction(log2_scale, 256) - Fraction(step - 256, 32)
    expected = (log2_ratio - tables.smallest) * per_octave + Fraction(1, 2)
    expected = max(0, min(len(tables) - 1, expected.__floor__()))
    assert tables.index(np.array([float(log2_scale)]), step)[0] == expected


def test_every_table_of_the_model_adds_up(tiny_model):
    tables = tiny_model.tables
    for t in range(len(tables)):
        counts = tables.table(t).astype(np.int64)
        assert len(counts) == 2 * tables.reach[t] + 2
        assert counts.sum() == TOTAL
        assert counts.min() >= 1


@pytest.mark.parametrize("change", ["sum", "zero", "size", "octave"])
def test_tables_that_do_not_fit_together_are_refused(change):
    good = family()
    counts, per_octave = good.counts.copy(), 2
    if change == "sum":
        counts[0] += 1
    elif change == "zero":
        counts[1] += counts[0]
        counts[0] = 0
    elif change == "size":
        counts = counts[:-1]
    else:
        per_octave = 3
    with pytest.raises(WrongModel):
        Tables(counts, good.reach, per_octave, -1)


def test_counted_bits_are_what_coding_costs(tiny_model):
    tables = tiny_model.tables
    random = np.random.default_rng(2)
    index = random.integers(0, len(tables), 4000).astype(np.int32)
    scale = 2.0 ** (tables.smallest + index / tables.per_octave)
    symbols = np.rint(random.laplace(0, scale)).astype(np.int32)
    symbols[::100] *= 700  # some escapes
    assert (np.abs(symbols) > tables.reach[index]).any()
    payload = coder.encode(coder.Models(tables), [(symbols, index)])
    assert 8 * len(payload) == pytest.approx(tables.bits(symbols, index).sum(), abs=40)
