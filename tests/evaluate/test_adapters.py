"""Each codec behind the same two functions; what is missing or unknown is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import picture

import sccodec
from sccodec.errors import BadRequest
from sccodec.evaluate import adapters, match
from sccodec.evaluate.quality import psnr

PIXELS = picture(96, 128)


@pytest.mark.parametrize("name", adapters.CLASSICAL)
def test_settings_rise_in_bytes_and_quality(name):
    codec = adapters.find(name)
    if codec.lacking:
        pytest.skip(codec.lacking)
    sizes, values = [], []
    for setting in codec.settings:
        data = codec.encode(PIXELS, setting, 1)
        decoded = codec.decode(data, 1)
        assert (decoded.shape, decoded.dtype) == (PIXELS.shape, np.uint8)
        sizes.append(len(data))
        values.append(psnr(PIXELS, decoded))
    assert sizes == sorted(sizes)
    assert values == sorted(values)
    assert values[-1] > 30
    assert any(character.isdigit() for character in codec.version)


@pytest.mark.parametrize("name", ["htj2k", "jpeg2000", "jxl", "hevc", "avif"])
def test_samples_at_the_ends_do_not_wrap_around(name):
    """Ringing beside hard edges goes beyond 0 and 255."""
    codec = adapters.find(name)
    if codec.lacking:
        pytest.skip(codec.lacking)
    hard = np.where((np.indices((96, 128)).sum(0) // 16 % 2)[..., None], 255, 0).astype(np.uint8)
    hard = np.repeat(hard, 3, 2)
    decoded = codec.decode(codec.encode(hard, codec.settings[-2], 1), 1)
    assert np.abs(decoded.astype(int) - hard).max() < 128


def test_a_build_without_a_codec_is_said(monkeypatch):
    monkeypatch.setattr("PIL.features.check", lambda feature: feature != "avif")
    found, left_out = adapters.choose(["jpeg", "avif"], (0.5,))
    assert [adapter.name for adapter in found] == ["jpeg"]
    assert left_out == ["avif is left out: this build of PIL lacks it"]


def test_sccodec_whole_and_by_layer(tiny_model):
    whole, base, top = (
        adapters.find(name, (0.4,))
        for name in ("scc@tiny-1", "scc:base@tiny-1", "scc:enhancement@tiny-1")
    )
    data = whole.encode(PIXELS, 0.4, 1)
    assert data == top.encode(PIXELS, 0.4, 1) == sccodec.encode(PIXELS, profile="tiny-1", rate=0.4)
    part = base.encode(PIXELS, 0.4, 1)
    assert part == sccodec.extract(data, "base")
    np.testing.assert_array_equal(base.decode(part, 1), sccodec.decode(data, "base"))
    assert tiny_model.digest[:16] in whole.version


def test_sccodec_by_step(tiny_model):
    by_step = adapters.find("scc:base@tiny-1", (320, 288), by_step=True)
    whole = sccodec.encode(PIXELS, profile="tiny-1", step=320)
    assert by_step.encode(PIXELS, 320, 1) == sccodec.extract(whole, "base")
    assert by_step.unit == "step index"
    # A figure at step 1 is none at 1 bit per pixel: the journal tells them apart by the version.
    assert by_step.version != adapters.find("scc:base@tiny-1").version


def test_names_that_make_no_sense(tiny_model):
    with pytest.raises(BadRequest, match="unknown codec 'gif'") as error:
        adapters.choose(["jpeg", "gif"], (0.5,))
    assert "jpeg2000" in error.value.hint
    with pytest.raises(BadRequest, match="named twice"):
        adapters.choose(["jpeg", "jpeg"], (0.5,))
    with pytest.raises(BadRequest, match="model tiny-1 has layers base, enhancement"):
        adapters.find("scc:top@tiny-1")
    with pytest.raises(BadRequest, match=r"codec scc@photo-99: model photo-99 is needed"):
        adapters.find("scc@photo-99")
    with pytest.raises(BadRequest, match=r"no whole \.scc file"):
        adapters.scc_by_step("scc:base")


def test_a_missing_library_is_named(monkeypatch):
    missing = replace(adapters.CLASSICAL["jxl"], library="not_there")
    monkeypatch.setitem(adapters.CLASSICAL, "jxl", missing)
    found, left_out = adapters.choose(["jpeg", "jxl"], (0.5,))
    assert [codec.name for codec in found] == ["jpeg"]
    assert left_out == ["jxl is left out: not_there is not installed"]
    with pytest.raises(BadRequest, match="none of the codecs can run here: jxl is left out"):
        adapters.choose(["jxl"], (0.5,))


# -- matching -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["jpeg", "jpeg2000"])
def test_the_largest_file_within(name):
    codec = adapters.find(name)
    for most in (700, 1200):
        found = match.largest_within(codec, PIXELS, most)
        assert found.met
        assert 0.85 * most < len(found.data) <= most
    found = match.largest_within(codec, PIXELS, 10)
    assert not found.met
    assert found.data == codec.encode(PIXELS, codec.settings[0], 1)


def test_the_smallest_file_as_good(tiny_model):
    codec = adapters.find("jpeg")
    found = match.smallest_as_good(codec, PIXELS, 33.0)
    assert found.met
    assert 33.0 <= psnr(PIXELS, codec.decode(found.data, 1)) < 33.6
    for quality, end in ((1.0, 0), (99.0, -1)):
        found = match.smallest_as_good(codec, PIXELS, quality)
        assert (found.met, found.data) == (False, codec.encode(PIXELS, codec.settings[end], 1))
    own = adapters.scc_by_step("scc@tiny-1")
    goal = psnr(PIXELS, own.decode(own.encode(PIXELS, 300, 1), 1))
    found = match.smallest_as_good(own, PIXELS, goal)
    assert found.met
    assert psnr(PIXELS, own.decode(found.data, 1)) >= goal


def test_errors_of_libraries_are_told_as_ours():
    codec = adapters.find("jpeg")
    with pytest.raises(BadRequest, match="jpeg fails: UnidentifiedImageError"):
        codec.decode(b"no picture", 1)
    with pytest.raises(BadRequest, match="jpeg fails: "):
        codec.encode(PIXELS.astype(float), 50, 1)
