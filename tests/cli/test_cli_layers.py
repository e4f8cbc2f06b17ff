"""Layers come out of files and go back, and `info` adds up, on the command line."""

from __future__ import annotations

import json

import pytest
from shell import flip, listing, run

import sccodec


@pytest.fixture(scope="module")
def scc(tiny_model) -> bytes:
    import numpy as np

    pixels = np.random.default_rng(1).integers(0, 256, (96, 128, 3), np.uint8)
    return sccodec.encode(pixels, profile="tiny-1", tile=64, step=300)


@pytest.fixture
def folder(tmp_path, scc):
    (tmp_path / "a.scc").write_bytes(scc)
    return tmp_path


def test_split_and_join_give_the_file_back(folder, scc):
    base, rest, again = folder / "base.scc", folder / "rest.scc", folder / "again.scc"
    done = run("extract", folder / "a.scc", "-o", base, "--rest", rest)
    assert done.code == 0
    line = f"{folder / 'a.scc'} -> {base}: base, {base.stat().st_size} of {len(scc)} bytes"
    assert line in done.err
    assert base.read_bytes() == sccodec.extract(scc, "base")
    done = run("join", rest, base, "-o", again)
    assert done.code == 0
    assert again.read_bytes() == scc
    assert run("join", rest, base, "-o", again).code == 1
    (row,) = (refused := run("join", rest, base, "-o", again, "--json")).rows()
    assert row["inputs"] == [str(rest), str(base)] and row["code"] == refused.code == 1
    assert refused.errors == [f"sccodec: error: {row['error']}"]
    assert run("join", rest, base, "-o", again, "-f").code == 0


def test_pipes(folder, scc):
    base = run("extract", "-", "-o", "-", stdin=scc).out
    assert base == sccodec.extract(scc, "base")
    assert run("extract", folder / "a.scc", "--layers", "2", "-o", "-").out == scc
    rest = folder / "rest.scc"
    assert run("extract", "-", "--layers", "enhancement", "-o", rest, stdin=scc).code == 0
    assert run("join", "-", rest, "-o", "-", stdin=base).out == scc
    assert run("join", "-", "-", "-o", "-", stdin=base).code == 1
    assert run("info", "-", stdin=scc).out.startswith(b"<stdin>: 128x96")
    assert run("info", "-", "-", stdin=scc).code == 1


def test_max_bytes_keeps_the_layers_that_fit(folder, scc):
    out, base = folder / "out.scc", sccodec.extract(scc, "base")
    for most, expected in ((len(scc), scc), (len(scc) - 1, base), (len(base), base)):
        assert run("extract", folder / "a.scc", "--max-bytes", most, "-f", "-o", out).code == 0
        assert out.read_bytes() == expected
    result = run("extract", folder / "a.scc", "--max-bytes", len(base) - 1, "-o", folder / "no.scc")
    assert result.code == 1
    assert result.errors == [
        f"sccodec: error: the first layer alone makes {len(base)} bytes, more than {len(base) - 1}"
    ]
    assert not (folder / "no.scc").exists()


def test_json_facts(folder, scc):
    base, rest = folder / "base.scc", folder / "rest.scc"
    (row,) = run("extract", folder / "a.scc", "-o", base, "--rest", rest, "--json").rows()
    assert (row["layers"], row["bytes"], row["of"]) == (["base"], base.stat().st_size, len(scc))
    assert row["rest_bytes"] == rest.stat().st_size
    (row,) = run("join", base, rest, "-o", folder / "b.scc", "--json").rows()
    assert row["bytes"] == len(scc)
    for arguments in (["extract", base, "-o", "-"], ["join", base, rest, "-o", "-"]):
        assert run(*arguments, "--json").code == 1


def test_info_adds_up_to_the_file(folder, scc):
    base = folder / "base.scc"
    run("extract", folder / "a.scc", "-o", base)
    rows = run("info", "--json", folder / "a.scc", base).rows()
    for row, size in zip(rows, (len(scc), base.stat().st_size), strict=True):
        layers = sum(layer["bytes"] for layer in row["layers"])
        assert layers + sum(row["metadata"].values()) + row["overhead_bytes"] == size
        assert row["bytes"] == size
    table = run("info", folder / "a.scc").out.decode().splitlines()
    sizes = {line.split()[0]: int(line.split()[1]) for line in table[2:]}
    assert sizes.pop("file") == len(scc) == sum(sizes.values())
    name = str(folder / "a.scc")
    assert rows[0] == {"input": name, **sccodec.info(scc), "name": name}


def test_info_of_several_files_goes_on_after_a_bad_one(folder, scc):
    (folder / "bad.scc").write_bytes(b"\x89SCC\r\n\x1a\nrubbish")
    result = run("info", folder / "bad.scc", folder / "a.scc", folder / "none.scc", "--json")
    assert result.code == 2  # that of the first failure
    assert len(result.errors) == 2
    assert [row.get("bytes") for row in result.rows()] == [None, len(scc), None]
    assert [row.get("code") for row in result.rows()] == [2, None, 1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["extract", "a.scc", "--layers", "detail", "-o", "out.scc"],
        ["extract", "a.scc", "--layers", "3", "-o", "out.scc"],
        ["extract", "a.scc", "--layers", "base", "--max-bytes", "9k", "-o", "out.scc"],
        ["extract", "a.scc", "--layers", "all", "--rest", "r.scc", "-o", "out.scc"],
        ["extract", "a.scc", "-o", "out.scc", "--rest", "./out.scc", "-f"],
        ["extract", "a.scc"],
        ["extract", "a.scc", "-o", "missing/out.scc"],
        ["extract", "a.scc", "-o", "."],
        ["join", "a.scc", "-o", "a.scc"],
        ["join", "-o", "out.scc"],
        ["join", "a.scc", "other.scc", "-o", "out.scc"],
    ],
)
def test_wrong_requests_leave_nothing_behind(folder, scc, arguments, monkeypatch):
    monkeypatch.chdir(folder)
    import numpy as np

    other = sccodec.encode(np.zeros((64, 64), np.uint8), profile="tiny-1")
    (folder / "other.scc").write_bytes(other)
    before = listing(folder)
    result = run(*arguments)
    assert result.code == 1
    assert ".part" not in result.err
    assert listing(folder) == before


def test_damage_is_never_copied(folder, scc):
    (folder / "bad.scc").write_bytes(flip(scc, layer=1, tile=2))
    before = listing(folder)
    result = run("extract", folder / "bad.scc", "--layers", "all", "-o", folder / "out.scc")
    assert result.code == 2
    assert "layer 1 (enhancement), tile 2" in result.errors[0]
    assert listing(folder) == before
    assert run("extract", folder / "bad.scc", "-o", folder / "base.scc").code == 0
    assert (folder / "base.scc").read_bytes() == sccodec.extract(scc, "base")
    # A sound copy heals a damaged one.
    assert run("join", folder / "bad.scc", folder / "a.scc", "-o", folder / "out.scc").code == 0
    assert (folder / "out.scc").read_bytes() == scc


def test_a_layer_without_what_it_needs_is_not_decoded(folder):
    rest = folder / "rest.scc"
    run("extract", folder / "a.scc", "--layers", "enhancement", "-o", rest)
    result = run("decode", rest)
    assert result.code == 1
    assert "layer enhancement needs layer 0, which this file does not hold" in result.errors[0]
    assert result.hints == ["sccodec: hint: sccodec join puts the layers of two files together"]
    assert json.loads(run("info", "--json", rest).out)["layers"][0]["name"] == "enhancement"
