"""What formats/entropy.md and formats/layers.md say is what the program does."""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import MODELS, picture
from spec_decoder import Model, correction
from tile_checks import decode_tile

from sccodec.codecs import image
from sccodec.container import from_bytes
from sccodec.latents.corrections import unpack
from sccodec.media.image import from_array

ROOT = Path(__file__).parents[1]
GOLDEN = (ROOT / "tests/golden/tiny.scc").read_bytes()
LAYERS = (ROOT / "formats/layers.md").read_text()


@pytest.fixture(scope="module")
def outsider():
    return Model(MODELS / "tiny-1")


def assert_decodes_alike(outsider, model, data, tile, h, w):
    """Symbols, what layers above see, and latents, bit for bit; returns the largest symbol."""
    reader = from_bytes(data)
    count = len(model.layers)
    payloads = [reader.payload(n, tile) for n in range(count)]
    steps = [reader.header.layer(n).step + reader.tiles[n][tile].step_offset for n in range(count)]
    done = outsider.decode_tile(payloads, h, w, steps)
    largest = 0
    for n, met, coded in decode_tile(reader, model, tile, model.models):
        largest = max(largest, *(np.abs(symbols).max(initial=0) for symbols, _ in met))
        checksum, seen, latent = done[n]
        assert checksum == reader.tiles[n][tile].symbols
        np.testing.assert_array_equal(seen, coded.seen)
        np.testing.assert_array_equal(latent, coded.latent)
    return largest


@pytest.mark.parametrize("tile", [0, 5, 11])
def test_a_decoder_written_from_the_specification_reads_the_golden_file(outsider, tiny_model, tile):
    assert_decodes_alike(outsider, tiny_model, GOLDEN, tile, 4, 4)


def test_it_reads_escapes_and_coarse_steps_too(outsider, tiny_model):
    array = picture(40, 100, seed=9)
    array[::2, ::3] = 255 * (np.arange(3) % 2).astype(np.uint8)  # far outside what it expects
    reach = tiny_model.tables.reach.max()
    for step, escapes in ((0, True), (511, False)):
        data = image.encode(from_array(array), image.Settings(step=step), tiny_model)
        largest = assert_decodes_alike(outsider, tiny_model, data, 0, 4, 8)
        assert (largest > reach) == escapes


def test_corrections_are_read_as_specified(tiny_model):
    reader, bends, met = from_bytes(GOLDEN), tiny_model.layers[1].bends, 0
    for tile in range(reader.header.layer(1).tiles):
        payload = reader.payload(1, tile)
        wanted, rest = correction(payload, bends)
        found, behind = unpack(payload, bends)
        assert behind == rest
        if wanted is None:
            assert found is None
            continue
        met += 1
        np.testing.assert_array_equal(found.mix, wanted[0][:, :, 0, 0])
        np.testing.assert_allclose(found.kernel, wanted[1], atol=1e-6)
    assert met, "no tile of the golden file has a correction"


def documented():
    """Array name -> type, from the table of formats/layers.md."""
    rows = {}
    for names, kinds in re.findall(r"^\| ([\w.{}, ]+?) \| (u?int\d+[^|]*) \|", LAYERS, re.M):
        first, *more = names.split(", ")
        types = re.findall(r"u?int\d+", kinds)
        every = [first, *(m if m[0] != "." else first.rpartition(".")[0] + m for m in more)]
        rows.update(zip(every, types if len(types) > 1 else types * len(every), strict=True))
    return rows


def test_every_array_of_a_prior_is_documented_with_its_type():
    rows, met = documented(), set()
    with np.load(MODELS / "tiny-1" / "prior.npz") as archive:
        for name in archive.files:
            bare = re.sub(r"^(base|enhancement)\.", "", name)
            bare = re.sub(r"context\.\d\.", "context.{k}.", bare)
            assert rows[bare] == str(archive[name].dtype), name
            met.add(bare)
    assert met == set(rows), "documented, yet in no model"
