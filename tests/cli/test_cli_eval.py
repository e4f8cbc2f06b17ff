"""`sccodec eval` and `sccodec bench`: what is refused, and what they print."""

from __future__ import annotations

import json
import sys

import pytest
from conftest import picture
from PIL import Image
from shell import run

pytest.importorskip("scipy", reason="the [eval] extra is not installed")


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(picture(176, 192)).save(path)
    return path


def rd(*arguments):
    return run("eval", "rd", *arguments)


def test_rd_writes_a_report_and_says_what_is_left_out(photo, tmp_path, monkeypatch):
    from dataclasses import replace

    from sccodec.evaluate import adapters

    missing = replace(adapters.CLASSICAL["jxl"], library="not_there")
    monkeypatch.setitem(adapters.CLASSICAL, "jxl", missing)
    out = tmp_path / "report"
    names = "scc@tiny-1,jpeg,jxl"
    options = ("--codecs", names, "--rates", "0.3,0.5", "--no-time", "--show", 0, "-j", 1)
    result = rd(photo, "-o", out, *options)
    assert result.code == 0, result.err
    assert "sccodec: jxl is left out: not_there is not installed" in result.err
    title, heads, line = result.out.decode().splitlines()
    assert title == "BD-rate on RGB PSNR against scc@tiny-1"
    assert heads.split() == ["mean", "of", "pictures", "mean", "curves"]
    name, each, _, mean, _ = line.split()  # of one picture they are the same
    assert name == "jpeg" and each == mean
    assert json.loads((out / "report.json").read_text())["notes"] == [
        "jxl is left out: not_there is not installed"
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rates", "0.5,0.25"], "rates do not rise: 0.5, 0.25"),
        (["--rates", "-1"], "a rate of -1 bits per pixel makes no sense"),
        (["--rates", "nan"], "a rate of nan bits per pixel makes no sense"),
        (["--rates", "a"], "invalid value for '--rates'"),
        (["--steps", "300,320"], "steps do not fall: 300, 320"),
        (["--steps", "512"], "a step index of 512 is not within 0..511"),
        (["--steps", ""], "no steps"),
        (["--steps", "3.5"], "'3.5' is not a list of step indexes"),
        (["--steps", "300", "--rates", "0.5"], "--rates and --steps exclude each other"),
        (["--codecs", "gif"], "unknown codec 'gif'"),
        (["--codecs", ""], "no codecs"),
        (["--published", "missing.json"], "missing.json: no such file"),
        (["--show", "-1"], "invalid value for '--show'"),
    ],
)
def test_rd_refuses_nonsense(photo, tmp_path, options, message):
    result = rd(photo, "-o", tmp_path / "report", *options)
    assert result.code == 1
    assert message in result.errors[0]
    assert not (tmp_path / "report").exists()


def test_rd_refuses_wrong_pictures_and_folders(photo, tmp_path):
    assert rd("-o", tmp_path / "r").errors == ["sccodec: error: no pictures to measure"]
    assert "no such file" in rd(tmp_path / "x.png", "-o", tmp_path / "r").errors[0]
    (tmp_path / "text").write_text("words")
    assert rd(tmp_path / "text", "-o", tmp_path / "r").code == 2
    result = rd(photo, "-o", tmp_path / "text", "--codecs", "jpeg")
    assert "is a file, not a folder for a report" in result.errors[0]


def test_layers_prints_tables(photo, tmp_path):
    options = ("--rates", 0.4, "--profile", "tiny-1", "--against", "jpeg", "--tile", 64, "-j", 1)
    result = run("eval", "layers", photo, "-o", tmp_path / "layers", *options)
    assert result.code == 0, result.err
    assert b"| base |" in result.out and b"joined back to the same bytes: 1 of 1" in result.out
    assert (tmp_path / "layers" / "layers.json").is_file()


def test_bench_prints_a_table(photo, tmp_path):
    options = ("--codecs", "jpeg", "--sizes", 0.01, "--threads", 1, "--repeat", 1, "--no-process")
    result = run("bench", "-o", tmp_path / "bench", *options, "--picture", photo)
    assert result.code == 0, result.err
    assert b"jpeg, 1 thread" in result.out
    result = run("bench", "-o", tmp_path / "b", "--sizes", "2,1")
    assert result.errors == ["sccodec: error: sizes do not rise"]
    result = run("bench", "-o", tmp_path / "b", "--threads", "0")
    assert "invalid value for '--threads'" in result.errors[0]


def test_without_the_extra_the_cure_is_told(photo, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    for command in (("eval", "rd", photo), ("eval", "layers", photo), ("bench",)):
        result = run(*command, "-o", tmp_path / "r")
        assert result.errors == ["sccodec: error: this needs scipy, which is not installed"]
        assert result.hints == ["sccodec: hint: pip install 'sccodec[eval]'"]
