"""`eval rd` end to end on small pictures: files, figures, resuming, the report."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from conftest import picture
from PIL import Image

import sccodec
from sccodec.errors import BadRequest
from sccodec.evaluate import comparison, machine, page, plots, rate
from sccodec.evaluate.journal import Journal
from sccodec.evaluate.pictures import load, originals
from sccodec.evaluate.quality import psnr

pytest.importorskip("scipy", reason="the [eval] extra is not installed")

CODECS = ["scc@tiny-1", "scc:base@tiny-1", "jpeg", "webp"]
PUBLISHED = str(Path(__file__).parent / "kodak_published.json")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / "a.png", folder / "b<i>.png"]
    Image.fromarray(picture(176, 192)).save(paths[0])
    Image.fromarray(picture(144, 160, seed=3)).save(paths[1])
    return [str(path) for path in paths]


def plan(pictures: list[str], **changes) -> comparison.Plan:
    settings = {
        "images": pictures,
        "codecs": CODECS,
        "rates": [0.2, 0.4],
        "timed": False,
        "show": 1,
    }
    return comparison.Plan(**{**settings, **changes})


@pytest.fixture(scope="module")
def done(pictures, tmp_path_factory):
    """(folder, report) of one run."""
    folder = tmp_path_factory.mktemp("run") / "report"
    report, names = comparison.run(plan(pictures, published=PUBLISHED, wanted=["HM"]), folder)
    assert {"points.csv", "report.json", "report.html", "psnr.svg"} <= set(names)
    assert all((folder / name).is_file() for name in names)
    return folder, report


def test_every_figure_is_that_of_a_written_file(done, pictures):
    folder, report = done
    assert len(report.rows) == 2 * (2 + 2 + 6 + 6)
    files = {path.stat().st_size for path in (folder / "files").rglob("*.*")}
    originals_by_name = {Path(path).name: load(path) for path in pictures}
    for row in report.rows:
        pixels = originals_by_name[row["picture"]]
        assert row["bytes"] in files
        assert row["bpp"] == pytest.approx(8 * row["bytes"] / pixels[..., 0].size)
        assert (row["ms_ssim"] is None) == (row["picture"] != "a.png")  # the other is too small
        assert row["encode_s"] is None
    jpeg = next(r for r in report.rows if (r["codec"], r["setting"]) == ("jpeg", 40))
    out = io.BytesIO()
    original = originals_by_name[jpeg["picture"]]
    Image.fromarray(original).save(out, "JPEG", quality=40, optimize=True)
    assert jpeg["bytes"] == out.tell()
    decoded = np.asarray(Image.open(out).convert("RGB"))
    assert jpeg["psnr"] == pytest.approx(psnr(original, decoded))


def test_csv_and_json_hold_the_same(done):
    folder, report = done
    rows = list(csv.DictReader((folder / "points.csv").open()))
    found = json.loads((folder / "report.json").read_text())
    assert found["points"] == report.rows
    assert [float(row["bpp"]) for row in rows] == [row["bpp"] for row in report.rows]
    assert {codec["name"] for codec in found["codecs"]} == set(CODECS)
    assert found["machine"]["cores"] >= 1
    difference = found["bd_rate"]["psnr"]["jpeg"]["webp"]
    assert difference["percent"] < 0 and difference["low"] < difference["high"]
    assert set(found["bd_rate"]["psnr"]) == set(CODECS)
    assert "HM" in found["bd_rate"]["psnr"]["jpeg"]
    each = found["bd_rate_by_picture"]["psnr"]
    assert set(each) == set(CODECS)
    (note,) = found["notes"]
    assert note.startswith("scc@tiny-1, scc:base@tiny-1 by rate: published curves are of one")
    assert "HM" not in each["jpeg"]  # of published codecs there are means alone
    assert each["jpeg"]["webp"]["percent"] < 0
    assert each["jpeg"]["webp"]["pictures"] == each["jpeg"]["webp"]["of"] == 2


def test_own_files_at_steps(pictures, tmp_path):
    changes = {"codecs": ["scc@tiny-1", "scc:base@tiny-1"], "steps": [340, 300], "jobs": 2}
    published = {"published": PUBLISHED, "wanted": ["HM"]}
    report, _ = comparison.run(plan(pictures, show=0, **changes, **published), tmp_path)
    assert not report.notes
    assert [codec["unit"] for codec in report.codecs] == ["step index"] * 2
    assert [row["setting"] for row in report.rows] == [340, 300] * 4
    for row in report.rows:
        data = sccodec.encode(
            load(next(p for p in pictures if p.endswith(row["picture"]))),
            profile="tiny-1",
            step=row["setting"],
        )
        part = sccodec.extract(data, "base") if row["codec"].startswith("scc:") else data
        assert row["bytes"] == len(part)


def test_a_second_run_measures_nothing(done, pictures, monkeypatch):
    folder, report = done
    before = (folder / "journal.jsonl").read_bytes()
    monkeypatch.setattr(rate, "_code_and_grade", None)
    again, _ = comparison.run(plan(pictures), folder)
    assert again.rows == report.rows
    assert (folder / "journal.jsonl").read_bytes() == before


def test_a_stopped_run_goes_on(done, pictures, tmp_path):
    """Half of the journal and none of the files: the rest is measured, to the same figures."""
    folder, report = done
    lines = (folder / "journal.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "journal.jsonl").write_text("".join(lines[: len(lines) // 2]) + '{"key": [')
    told = []
    again, _ = comparison.run(
        plan(pictures, jobs=2, show=0), tmp_path, lambda *words: told.append(words)
    )
    assert again.rows == report.rows
    total = len(lines) - len(lines) // 2
    assert told[-1] == ("coded, decoded and compared", total, total)


def test_timed_points_have_seconds_and_memory(pictures, tmp_path):
    report, _ = comparison.run(
        plan(pictures[1:], codecs=["scc@tiny-1", "jpeg"], timed=True, show=0), tmp_path
    )
    for row in report.rows:
        for name in ("encode_s", "decode_s", "encode_cpu_s", "decode_cpu_s"):
            assert 0 < row[name] < 60
        assert (row["encode_peak"] is None) == (not machine.reset_peak())
        assert row["encode_peak"] is None or row["encode_peak"] > 2**20
        assert row["psnr"] > 15
    assert any(curve.points[0]["encode_s"] for curve in report.measured)


def test_a_rate_out_of_reach_is_named_and_left_out(pictures, tmp_path):
    report, _ = comparison.run(
        plan(pictures[:1], codecs=["scc@tiny-1"], rates=[0.3, 30], show=1), tmp_path
    )
    assert [row["refused"] is None for row in report.rows] == [True, False]
    assert "out of reach" in report.notes[0]
    assert len(report.measured[0].points) == 1


def test_any_codec_may_come_first_and_one_rate_is_enough(pictures, tmp_path):
    changes = {"codecs": ["jpeg", "scc:base@tiny-1"], "rates": [0.3], "show": 1}
    report, _ = comparison.run(plan(pictures[:1], **changes), tmp_path)
    assert [len(curve.points) for curve in report.measured] == [6, 1]
    (data,) = re.findall(
        r'<script type="application/json">(.*?)</script>', (tmp_path / "report.html").read_text()
    )
    assert [v["label"].split(":")[0] for v in json.loads(data)] == ["original", "jpeg", "scc"]


def test_nonsense_is_refused_before_anything_is_measured(pictures, tmp_path):
    for changes, words in (
        ({"images": []}, "no pictures"),
        ({"images": [pictures[0], pictures[0]]}, "is the same picture as"),
        ({"codecs": ["gif"]}, "unknown codec"),
        ({"rates": []}, "no rates"),
        ({"rates": [-1]}, "a rate of -1"),
        ({"rates": [0.5, 0.2]}, "rates do not rise: 0.5, 0.2"),
        ({"rates": [0.5, 0.5]}, "rates do not rise"),
        ({"anchors": ["VTM"]}, "no curve 'VTM' to be an anchor"),
        ({"wanted": ["HM"]}, "--curve needs --published"),
    ):
        with pytest.raises(BadRequest, match=words):
            comparison.run(plan(pictures, **changes), tmp_path / "new")
        assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadRequest, match="is a file, not a folder"):
        comparison.run(plan(pictures), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_what_was_measured_otherwise_is_measured_again(pictures, tmp_path, monkeypatch):
    changes = {"codecs": ["jpeg"], "timed": True, "show": 0}
    first, _ = comparison.run(plan(pictures[1:], **changes), tmp_path)
    second, _ = comparison.run(plan(pictures[1:], **changes, jobs=2), tmp_path)
    assert {row["threads"] for row in first.rows} == {1}
    assert {row["threads"] for row in second.rows} == {2}
    # As if the package had come since: of points that lack its measure, all are graded anew.
    monkeypatch.setattr(rate, "find_spec", lambda name: name == "ssimulacra2")
    graded = []
    monkeypatch.setattr(
        rate, "_code_and_grade", lambda *a: graded.append(a) or {"ssimulacra2": 50.0}
    )
    for key in (journal := Journal(tmp_path)).keys:
        journal.add(key, ssimulacra2=None)
    third, _ = comparison.run(plan(pictures[1:], **changes, jobs=1), tmp_path)
    assert len(graded) == len(third.rows) == 6
    assert {row["ssimulacra2"] for row in third.rows} == {50.0}


def test_a_published_curve_is_not_taken_for_a_measured_one(pictures, tmp_path):
    (tmp_path / "p.json").write_text('{"jpeg": [{"bpp": 1, "psnr": 30}]}')
    changes = {"codecs": ["jpeg"], "published": str(tmp_path / "p.json")}
    with pytest.raises(BadRequest, match="has a curve 'jpeg', as a codec here is called"):
        comparison.run(plan(pictures, **changes), tmp_path / "new")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_a_name_that_is_no_text_is_shown_and_not_the_end(tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.png")
    Image.fromarray(picture(64, 64)).save(name)
    report, _ = comparison.run(plan([name], codecs=["jpeg"]), tmp_path / "out")
    assert r"b\xff.png" in (tmp_path / "out" / "report.html").read_text()
    assert all(row["psnr"] > 15 for row in report.rows)


def test_a_journal_of_other_pictures_is_refused(done, tmp_path):
    folder, _ = done
    other = tmp_path / "other.png"
    Image.fromarray(picture(64, 64, seed=9)).save(other)
    before = (folder / "report.html").read_bytes()
    with pytest.raises(BadRequest, match="holds measurements of other pictures"):
        comparison.run(plan([str(other)]), folder)
    assert (folder / "report.html").read_bytes() == before


def test_pictures_that_codecs_cannot_share(tmp_path):
    deep, clear, gray = (tmp_path / f"{name}.png" for name in ("deep", "clear", "gray"))
    Image.fromarray(np.full((8, 8), 999, np.uint16)).save(deep)
    Image.fromarray(np.full((8, 8, 4), 99, np.uint8)).save(clear)
    Image.fromarray(np.full((8, 9), 99, np.uint8)).save(gray)
    with pytest.raises(BadRequest, match="has 16 bits a sample"):
        originals([str(deep)])
    with pytest.raises(BadRequest, match="has an alpha channel"):
        originals([str(clear)])
    (found,) = originals([str(gray)])
    assert (found.width, found.height, found.pixels.shape) == (9, 8, (8, 9, 3))


# -- the page -----------------------------------------------------------------------------------


def test_the_page_needs_no_network_and_escapes_names(done):
    text = (done[0] / "report.html").read_text()
    assert set(re.findall(r"\w+://[^\s\"'<]*", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=[\"'](?!data:)", text)
    assert "b<i>.png" not in text and "b&lt;i&gt;.png" in text


def test_the_slider_shows_the_pixels_of_the_files(done, pictures):
    folder, _ = done
    text = (folder / "report.html").read_text()
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', text)
    views = json.loads(data)
    assert [view["label"].split(":")[0] for view in views][:2] == ["original", "scc@tiny-1"]
    assert len(views) == 1 + len(CODECS)
    original = load(pictures[0])
    sizes = []
    for view in views:
        head, _, coded = view["data"].partition(",")
        assert head == "data:image/webp;base64"
        pixels = np.asarray(Image.open(io.BytesIO(b64decode(coded))))
        if found := re.search(r"(\d+) bytes, ([\d.]+) dB", view["label"]):
            assert float(found[2]) == pytest.approx(psnr(original, pixels), abs=0.006)
            sizes.append(int(found[1]))
        else:
            np.testing.assert_array_equal(pixels, original)
    assert sizes[0] == max(sizes)  # others have at most its bytes
    assert sizes[0] * 0.7 < sizes[2]


def test_a_chart_says_its_values():
    line = plots.Line("a & b", ((0.1, 30.0, "a & b\n0.1"), (1.0, 40.0, "last")))
    empty = plots.Line("none", ())
    svg = plots.chart("title", "x", "y", [line, empty])
    assert svg.count("<circle") == 2 and "<title>a &amp; b\n0.1</title>" in svg
    assert "none" not in svg.replace('fill="none"', "")
    assert plots.chart("title", "x", "y", [empty]) == ""
    axis = plots.Axis(0.1, 100, 0, 300, log=True)
    assert [axis.at(tick) for tick in axis.ticks] == pytest.approx([0, 100, 200, 300])
    assert plots.Axis(0, 7, 0, 70).ticks == [0, 1, 2, 3, 4, 5, 6, 7]
    assert len(plots.Axis(0.026, 0.0345, 0, 1, log=True).ticks) > 1  # no 1, 2 or 5 within


def test_a_picture_too_wide_for_webp_is_shown_as_png():
    assert page.embedded(np.zeros((1, 16384, 3), np.uint8)).startswith("data:image/png;")
    assert page.embedded(np.zeros((1, 16383, 3), np.uint8)).startswith("data:image/webp;")


def test_numbers_for_people():
    assert [page.number(x) for x in (None, 3, 0.12345, 31.237)] == ["", "3", "0.1235", "31.24"]


def test_a_worker_that_dies_is_named(tmp_path):
    """What others have measured stays in the journal."""
    script = (
        "import os, pathlib\n"
        "from sccodec.evaluate import rate\n"
        "if __name__ == '__main__':\n"
        "    list(rate.run_all([(1, os._exit, (3,))], 1, print, 'coded', apart=True))\n"
    )
    (tmp_path / "dies.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(Path(rate.__file__).parents[2])}
    run = subprocess.run(
        [sys.executable, tmp_path / "dies.py"], capture_output=True, env=environment, timeout=60
    )
    assert b"CodecError: coded: a worker process ended by itself" in run.stderr


def test_the_journal_grows_point_by_point(pictures, tmp_path, monkeypatch):
    """A failure in the middle keeps what came before it."""
    real, calls = rate._code_and_grade, []

    def fails_third(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(rate, "_code_and_grade", fails_third)
    with pytest.raises(KeyboardInterrupt):
        comparison.run(plan(pictures, codecs=["jpeg"]), tmp_path)
    assert len(Journal(tmp_path).keys) == 2
