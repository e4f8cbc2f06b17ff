"""formats/scc.ksy, compiled, sees the same files as our reader.

Needs node with the npm packages kaitai-struct-compiler and js-yaml (in NODE_PATH), and the
Python package kaitaistruct; skipped where they are missing.
"""

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from scc_samples import small_file

from sccodec.container import from_bytes

FORMATS = Path(__file__).parents[2] / "formats"
VECTORS = sorted((FORMATS / "vectors").glob("*.vector"))
COMPILE = """
const fs = require("fs"), yaml = require("js-yaml");
const compiler = require("kaitai-struct-compiler");
const [source, folder] = process.argv.slice(-2);
compiler.compile("python", yaml.load(fs.readFileSync(source, "utf8")), null, false).then(
  files => { for (const name in files) fs.writeFileSync(folder + "/" + name, files[name]); },
  error => { console.error(String(error)); process.exit(1); });
"""


@pytest.fixture(scope="module")
def scc(tmp_path_factory):
    """The class that Kaitai Struct makes of our description."""
    pytest.importorskip("kaitaistruct", reason="the Python package kaitaistruct is missing")
    if not shutil.which("node"):
        pytest.skip("node is missing")
    probe = "require('kaitai-struct-compiler'); require('js-yaml')"
    if subprocess.run(["node", "-e", probe], capture_output=True).returncode:
        pytest.skip("npm packages kaitai-struct-compiler and js-yaml are not in NODE_PATH")
    folder = tmp_path_factory.mktemp("kaitai")
    command = ["node", "-e", COMPILE, "--", str(FORMATS / "scc.ksy"), str(folder)]
    subprocess.run(command, check=True, timeout=60)
    specification = importlib.util.spec_from_file_location("scc", folder / "scc.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.Scc


def vector_bytes(path):
    return path.read_bytes().split(b"\n\n", 1)[1]


FILES = {path.stem: vector_bytes(path) for path in VECTORS if path.name.startswith("ok_")}
FILES["small"] = small_file()


@pytest.mark.parametrize("name", FILES)
def test_same_fields(scc, name):
    theirs, ours = scc.from_bytes(FILES[name]), from_bytes(FILES[name])
    for field in ("width", "height", "channels", "bit_depth", "colour", "frames", "tile_size",
                  "digest", "total_layers", "present_layers"):  # fmt: skip
        assert getattr(theirs.header, field) == getattr(ours.header, field)
    assert theirs.header.modality.value == ours.header.modality
    assert theirs.header.model.value == ours.header.model
    for entry, layer in zip(theirs.header.entries, ours.header.layers, strict=True):
        assert entry.name.value == layer.name
        for field in ("index", "purpose", "needs", "step", "tile_columns", "tile_rows",
                      "bytes", "quality"):  # fmt: skip
            assert getattr(entry, field) == getattr(layer, field)
    for number, layer in enumerate(ours.header.layers):
        tiles = theirs.directory.layers[number].tiles
        fields = [(t.flags, t.step_offset, t.length, t.crc32, t.symbols) for t in tiles]
        assert fields == list(ours.tiles[layer.index])
        payloads = b"".join(
            ours.payload(layer.index, tile)
            for tile, entry in enumerate(ours.tiles[layer.index])
            if entry.present
        )
        assert theirs.layers[number].payload.index == layer.index
        assert theirs.layers[number].payload.payloads == payloads
    chunks = [(c.type, c.flags, c.length) for c in theirs.before_layers[:-1]]
    assert chunks == [(c.type, c.flags, len(c.payload)) for c in ours.chunks]
    assert theirs.done.payload.total_length == ours.size


def test_what_both_refuse(scc):
    """Kaitai checks neither checksums nor sums; of the rest it refuses most bad vectors."""
    refused = {}
    for path in VECTORS:
        try:
            scc.from_bytes(vector_bytes(path))
            refused[path.stem] = False
        except Exception:
            refused[path.stem] = True
    assert not any(was for name, was in refused.items() if name.startswith("ok_"))
    bad = [was for name, was in refused.items() if not name.startswith("ok_")]
    assert sum(bad) > len(bad) / 2, json.dumps(refused, indent=1)
