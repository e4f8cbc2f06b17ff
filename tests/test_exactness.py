"""The entropy path gives the same integers everywhere: checked on a committed file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tile_checks import decode_tile, tile_by_tile, words

import sccodec
from sccodec.codecs import image
from sccodec.container import from_bytes
from sccodec.container.describe import describe
from sccodec.entropy import coder
from sccodec.media.image import read

GOLDEN = Path(__file__).parent / "golden"
DATA = (GOLDEN / "tiny.scc").read_bytes()  # a missing golden file fails here
EXPECTED = json.loads((GOLDEN / "tiny.json").read_text())


def test_every_checksum_is_as_pinned(tiny_model):
    assert tile_by_tile(DATA) == EXPECTED["tiles"]


def test_the_file_stores_the_pinned_checksums():
    reader = from_bytes(DATA)
    for n, entries in reader.tiles.items():
        for tile, entry in enumerate(entries):
            assert f"{entry.symbols:08x}" == EXPECTED["tiles"][f"layer {n}, tile {tile}"][0]


def test_header_facts_are_as_pinned():
    assert describe(from_bytes(DATA, name="tiny.scc")) == EXPECTED["info"]


def test_the_plain_coder_decodes_the_same(tiny_model):
    assert tile_by_tile(DATA, plain=True) == EXPECTED["tiles"]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_order_of_tiles_does_not_matter(tiny_model, seed):
    count = from_bytes(DATA).header.layer(0).tiles
    order = np.random.default_rng(seed).permutation(count).tolist()
    assert tile_by_tile(DATA, order) == EXPECTED["tiles"]


@pytest.mark.usefixtures("all_cores")
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("coder_kind", ["fast", "plain"])
def test_the_number_of_blas_threads_does_not_matter(threads, coder_kind):
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    script = (
        "import json, sys, tile_checks as t;"
        "data = open('golden/tiny.scc', 'rb').read();"
        "print(json.dumps(t.tile_by_tile(data, plain=sys.argv[1] == 'plain')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, coder_kind],
        env={**os.environ, **dict.fromkeys(names, str(threads))},
        cwd=Path(__file__).parent,
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout) == EXPECTED["tiles"]


def test_the_same_symbols_give_the_same_bytes(tiny_model):
    reader = from_bytes(DATA)
    for plain in (False, True):
        models = coder.Models(tiny_model.tables, plain=plain)
        for tile in range(reader.header.layer(0).tiles):
            for n, met, _ in decode_tile(reader, tiny_model, tile, models):
                assert coder.encode(models, met) == words(reader, tiny_model, n, tile)


def test_a_machine_without_constriction_writes_the_same_bytes_and_reads_them(tmp_path):
    """The whole program, where importing constriction fails as on a machine without it."""
    script = (
        "import sys; sys.modules['constriction'] = None;"
        "from sccodec.entropy import coder; assert coder.AnsCoder is None;"
        "from sccodec.cli import cli; cli(standalone_mode=False)"
    )

    def run(*words):
        command = [sys.executable, "-c", script, *map(str, words)]
        return subprocess.run(command, cwd=GOLDEN, capture_output=True, text=True)

    coded = tmp_path / "tiny.scc"
    done = run("encode", "tiny.png", "--profile", "tiny-1", "--step", 300, "-o", coded)
    assert done.returncode == 0, done.stderr
    pixels = read(GOLDEN / "tiny.png").pixels
    assert coded.read_bytes() == sccodec.encode(pixels, profile="tiny-1", step=300)
    assert run("verify", "tiny.scc").stdout == "tiny.scc: ok\n"
    assert run("decode", "tiny.scc", "-o", tmp_path / "tiny.png").returncode == 0
    assert np.array_equal(read(tmp_path / "tiny.png").pixels, sccodec.decode(DATA))


@pytest.mark.parametrize("jobs", [1, 4])
def test_the_picture_is_within_one_of_the_pinned_one(jobs):
    picture, report = image.decode(from_bytes(DATA), jobs=jobs)
    pinned = read(GOLDEN / "tiny.png").pixels
    assert np.abs(picture.pixels.astype(int) - pinned).max() <= 1
    assert not report.damaged
