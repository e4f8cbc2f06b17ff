"""Corrections of the finish: fitted where they pay, and only there."""

import functools

import numpy as np
import pytest
from conftest import picture

from sccodec.codecs import image
from sccodec.codecs.finishing import Normal, correct, features, fit
from sccodec.codecs.image import Settings
from sccodec.container import QUALITY_UNKNOWN, from_bytes
from sccodec.latents.corrections import NONE, unpack
from sccodec.media.image import from_array
from sccodec.transform.finish import AROUND, Correction

BENDS = 4


def problem(wanted, noise=0.0):
    """Normal equations of random features whose best weights are (3, F) `wanted`."""
    random = np.random.default_rng(3)
    f = random.normal(0, 1, (wanted.shape[1], 5000))
    lacks = wanted @ f + noise * random.normal(0, 1, (3, 5000))
    return Normal(f @ f.T, f @ lacks.T)


def test_the_weights_that_were_missing_are_found():
    wanted = np.zeros((3, BENDS + 24))
    wanted[0, 1], wanted[2, BENDS + 5], wanted[1, BENDS + 20] = 0.5, -0.25, 0.125
    correction, rest = unpack(fit(problem(wanted), 1.0, BENDS), BENDS)
    assert rest == b""
    found = np.concatenate([correction.mix, correction.straight.reshape(3, 24)], 1)
    np.testing.assert_allclose(found, wanted, atol=0.02)


def test_what_saves_less_than_it_takes_is_not_sent():
    wanted = np.full((3, BENDS + 24), 0.01)
    normal = problem(wanted, noise=1)
    assert fit(normal, 1e-4, BENDS) == NONE
    assert fit(normal, 10.0, BENDS) != NONE


def test_nothing_to_explain_and_nothing_to_explain_it_with():
    none = Normal(np.zeros((28, 28)), np.zeros((28, 3)))
    assert fit(none, 1.0, BENDS) == NONE


def test_features_are_what_a_correction_weighs(tiny_model):
    finish = tiny_model.heads[1].finish
    random = np.random.default_rng(4)
    beyond = 2 * finish.reach
    plain = random.normal(0, 20, (3, 32 + beyond, 48 + beyond)).astype(np.float32)
    step = np.float32(2.5)
    mix = random.normal(0, 0.1, (3, finish.bends)).astype(np.float32)
    correction = Correction(mix, random.normal(0, 0.1, (3, 3, 8)).astype(np.float32))

    def run(c):
        return finish.graph.run(
            plain=plain[None],
            step=step[None],
            mix=c.mix[:, :, None, None],
            straight=c.kernel,
        )

    before, after = run(finish.none), run(correction)
    weights = np.concatenate([correction.mix, correction.straight.reshape(3, 24)], 1)
    f = features(before["near"][0], before["bent"][0][: finish.bends])
    assert len(f) == finish.bends + 3 * len(AROUND)
    added = step * np.tensordot(weights, f, 1)
    np.testing.assert_allclose(after["pixels"][0] - before["pixels"][0], added, atol=1e-3)


@pytest.fixture
def uncorrected(monkeypatch):
    """Encodes as if no correction ever paid."""

    def encode(*args):
        with monkeypatch.context() as patch:
            patch.setattr(image, "correct", lambda coder, coded, *_: coded)
            return image.encode(*args)

    return encode


@pytest.mark.parametrize("settings", [Settings(step=300), Settings(step=300, tile=64, jobs=3)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_corrections_save_more_than_they_take(tiny_model, uncorrected, settings, kind):
    pixels = picture(130, 200, seed=3).astype(kind) * (257 if kind is np.uint16 else 1)
    original = from_array(pixels)
    files = [encode(original, settings, tiny_model) for encode in (uncorrected, image.encode)]
    errors = [
        np.square(image.decode(from_bytes(data))[0].pixels / 257.0 - pixels / 257.0).sum()
        if kind is np.uint16
        else np.square(image.decode(from_bytes(data))[0].pixels - pixels.astype(float)).sum()
        for data in files
    ]
    step = 2 ** ((300 - 256) / 32)
    saved = 0.06 / step**2 * (errors[0] - errors[1])
    taken = 8 * (len(files[1]) - len(files[0]))
    assert taken > 0
    assert saved > taken
    stored = [from_bytes(data).header.layers[1].quality for data in files]
    assert stored[1] > stored[0]


@pytest.mark.usefixtures("all_cores")
def test_threads_change_nothing(tiny_model):
    original = from_array(picture(130, 200, seed=3))
    encode = functools.partial(image.encode, original, model=tiny_model)
    assert encode(Settings(step=300, tile=64)) == encode(Settings(step=300, tile=64, jobs=4))


@pytest.mark.parametrize("effort", [1, 3])
def test_less_effort_sends_none(tiny_model, effort):
    settings = Settings(step=300, effort=effort)
    data = image.encode(from_array(picture(130, 200)), settings, tiny_model)
    assert from_bytes(data).payload(1, 0).startswith(NONE)


def test_the_least_effort_measures_nothing(tiny_model):
    qualities = [
        [layer.quality for layer in from_bytes(data).header.layers]
        for data in (
            image.encode(from_array(picture(64, 64)), Settings(step=300, effort=e), tiny_model)
            for e in (1, 2)
        )
    ]
    assert qualities[0] == [QUALITY_UNKNOWN] * 2
    assert QUALITY_UNKNOWN not in qualities[1]


def test_only_tiles_that_have_the_layer_are_corrected(tiny_model, monkeypatch):
    met = []

    def spy(coder, coded, *args):
        met.append((coded, correct(coder, coded, *args)))
        return met[-1][1]

    monkeypatch.setattr(image, "correct", spy)
    interest = image.Interest((64, 64, 64, 64), only=True)
    settings = Settings(step=300, tile=64, interest=interest)
    image.encode(from_array(picture(192, 192, seed=4)), settings, tiny_model)
    ((before, after),) = met
    assert [parts[1] is None for parts in after] == [parts[1] is None for parts in before]
    assert after[4][1].front != before[4][1].front == NONE
    assert all(parts[0].front == b"" for parts in after), "the base has no finish"
