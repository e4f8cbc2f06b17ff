"""Latents moved to where they lead: nearer to the picture, for less."""

from importlib import resources

import numpy as np
import pytest
from PIL import Image

from sccodec.codecs import image
from sccodec.codecs.image import Interest, Settings
from sccodec.codecs.payloads import TileCoder
from sccodec.codecs.reanalysis import analysed, moved
from sccodec.codecs.tiles import Box, Grid
from sccodec.container import from_bytes
from sccodec.media.image import from_array
from sccodec.profiles.registry import find

STEP = 300


@pytest.mark.parametrize("kind", ["photo", "letters", "gray", "16 bit"])
def test_a_file_costs_less(kind):
    model = find("photo-1")
    photo = np.asarray(Image.open(resources.files("sccodec") / "demo/photo.png"))[:256, :256]
    random = np.random.default_rng(1)
    letters = np.kron(random.integers(0, 2, (32, 48, 1)), np.ones((4, 4, 3))).astype(np.uint8) * 255
    pixels = {
        "photo": photo,
        "letters": letters,
        "gray": photo[..., :1],
        "16 bit": photo.astype(np.uint16) * 257,
    }[kind]
    costs = []
    for effort in (2, 3):
        data = image.encode(from_array(pixels), Settings(step=STEP, effort=effort), model)
        decoded = image.decode(from_bytes(data), model=model)[0].pixels
        scale = 257.0 if pixels.dtype == np.uint16 else 1.0
        error = np.square(decoded / scale - pixels / scale).mean()
        costs.append(8 * len(data) / pixels[..., 0].size + 0.18 / 4 ** ((STEP - 256) / 32) * error)
    assert costs[1] < costs[0]


def test_what_decodes_is_analysed_more_as_the_original_was():
    model = find("photo-1")
    original = from_array(np.asarray(Image.open(resources.files("sccodec") / "demo/photo.png")))
    grid = Grid(original.width, original.height, 1024)
    wanted = analysed(model, original, grid.canvas, 1)
    before = TileCoder(model, grid, wanted, [0], set(), 3)
    whole = Box(0, 0, original.width, original.height)
    errors, differences = [], []
    for coder in (before, moved(before, STEP, original, 1)):
        decoded = coder.quantised(STEP, 1)[0].pixels(1, whole, original)
        found = analysed(model, from_array(decoded), grid.canvas, 1)
        differences.append(np.square(found["enhancement.y"] - wanted["enhancement.y"]).mean())
        errors.append(np.square(decoded - original.pixels.astype(float)).mean())
    assert differences[1] < 0.98 * differences[0]
    assert errors[1] < 0.96 * errors[0]


def test_a_region_of_interest_is_better_there_at_the_default_effort():
    with Image.open(resources.files("sccodec") / "demo/photo.png") as photo:
        pixels = np.asarray(photo)[:192, :192]
    inside, errors = np.s_[64:128, 64:128], []
    for interest in (None, Interest((64, 64, 64, 64), finer=32)):
        settings = Settings(step=340, tile=64, interest=interest)
        data = image.encode(from_array(pixels), settings, find("photo-1"))
        decoded = image.decode(from_bytes(data))[0].pixels.astype(float)
        errors.append(np.square(decoded - pixels)[inside].mean())
    assert errors[1] < 0.7 * errors[0]
