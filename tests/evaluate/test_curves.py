"""BD-rate against hand-computed curves, a reference package and published tables."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from sccodec.errors import BadRequest
from sccodec.evaluate.curves import (
    Curve,
    bd_rate,
    mean_bd_rate,
    mean_curve,
    read_published,
)

pytest.importorskip("scipy", reason="the [eval] extra is not installed")

PUBLISHED = Path(__file__).parent / "kodak_published.json"
CURVE = [(0.1, 26.0), (0.25, 29.5), (0.5, 32.0), (1.0, 35.5), (2.0, 40.0)]

# BD-rate on RGB PSNR against VTM and against JPEG, in percent, as computed from these curves
# elsewhere, with PCHIP.
TABLE = {
    "bmshj2018-factorized": (68.7, -44.4),
    "bmshj2018-hyperprior": (31.0, -54.9),
    "mbt2018-mean": (21.8, -57.8),
    "mbt2018": (11.5, -60.9),
    "cheng2020-anchor": (4.0, -65.3),
    "BPG": (22.0, -58.9),
    "HM": (23.3, -60.1),
    "AV1": (16.2, -62.4),
    "WebP": (78.7, -36.2),
    "JPEG2000": (98.0, -35.9),
    "JPEG": (208.5, 0.0),
}


@pytest.mark.parametrize("percent", [-50, -7.5, 0, 12.5, 300])
def test_a_curve_moved_by_a_factor_differs_by_it(percent):
    moved = [(rate * (1 + percent / 100), value) for rate, value in CURVE]
    found = bd_rate(CURVE, moved)
    assert found.percent == pytest.approx(percent, abs=1e-9)
    assert (found.low, found.high) == (26.0, 40.0)


def test_straight_lines_by_hand():
    """log2(rate) = q / 6 against q / 6 + (q - 24) / 12 over 24..36: the mean gap is 1/2 octave."""
    anchor = [(2 ** (q / 6), q) for q in (24, 27, 30, 33, 36)]
    test = [(2 ** (q / 6 + (q - 24) / 12), q) for q in (18, 24, 30, 36, 42)]
    found = bd_rate(anchor, test)
    assert (found.low, found.high) == (24, 36)
    assert found.percent == pytest.approx(100 * (math.sqrt(2) - 1), abs=1e-9)


def test_published_table():
    curves = {curve.name: curve.of("psnr") for curve in read_published(PUBLISHED)}
    for name, expected in TABLE.items():
        for anchor, percent in zip(("VTM", "JPEG"), expected, strict=True):
            assert bd_rate(curves[anchor], curves[name]).percent == pytest.approx(percent, abs=0.1)


@pytest.mark.parametrize("measure", ["psnr", "ms_ssim_db"])
def test_as_the_reference_package(measure):
    reference = pytest.importorskip("bjontegaard")
    curves = {curve.name: curve.of(measure) for curve in read_published(PUBLISHED)}
    for name in TABLE:
        (r1, d1), (r2, d2) = (zip(*curves[n], strict=True) for n in ("VTM", name))
        expected = reference.bd_rate(
            r1, d1, r2, d2, method="pchip", require_matching_points=False, min_overlap=0
        )
        assert bd_rate(curves["VTM"], curves[name]).percent == pytest.approx(expected, abs=0.01)


def test_no_shared_range_and_too_few_points():
    better = [(rate, value + 20) for rate, value in CURVE]
    assert bd_rate(CURVE, better) is None
    assert bd_rate(CURVE, CURVE[:1]) is None
    assert bd_rate([], CURVE) is None


def test_points_that_cost_more_and_give_less_do_not_count():
    bumpy = [*CURVE, (0.6, 31.0)]
    assert bd_rate(CURVE, bumpy).percent == pytest.approx(0)


def test_means_are_of_rates_and_of_decibels():
    rows = [
        {"setting": 1, "bpp": 0.2, "psnr": 30.0, "psnr_y": None},
        {"setting": 1, "bpp": 0.4, "psnr": 34.0, "psnr_y": 33.0},
        {"setting": 2, "bpp": 0.9, "psnr": 39.0, "psnr_y": 38.0},  # one picture lacks it
    ]
    curve = mean_curve("x", rows, 2)
    (point,) = curve.points
    assert (point["bpp"], point["psnr"], point["psnr_y"]) == (pytest.approx(0.3), 32.0, None)
    assert curve.of("psnr") == [(pytest.approx(0.3), 32.0)]
    assert curve.of("psnr_y") == []


def test_the_mean_of_pictures_differences_by_hand():
    def rows(picture: str, factor: float) -> list[dict]:
        return [{"digest": picture, "bpp": factor * r, "psnr": v} for r, v in CURVE]

    anchor = rows("a", 1) + rows("b", 3) + rows("c", 1)
    beyond = [{"digest": "c", "bpp": r, "psnr": v + 50} for r, v in CURVE]
    found = mean_bd_rate(anchor, rows("a", 1.1) + rows("b", 3 * 1.3) + beyond, "psnr")
    assert found.percent == pytest.approx(20)  # of 10 and 30 %; the last shares no range
    assert (found.pictures, found.of) == (2, 3)
    assert mean_bd_rate(anchor, beyond, "psnr") is None
    assert mean_bd_rate(anchor, anchor, "ms_ssim") is None  # none was measured


def test_settings_of_two_kinds_have_other_means_for_the_same_curves():
    """Why pictures are compared one by one: one codec, asked for a rate and for a quality."""

    def row(picture: str, setting: float, rate: float) -> dict:
        level = {"easy": 40.0, "hard": 30.0}[picture]
        return {
            "digest": picture,
            "setting": setting,
            "bpp": rate,
            "psnr": level + 6 * math.log2(rate),
        }

    by_rate = [row(p, r, r) for p in ("easy", "hard") for r in (0.25, 0.5, 1, 2)]
    by_quality = [
        row(p, q, 2 ** ((q - level) / 6))
        for p, level in (("easy", 40), ("hard", 30))
        for q in (28, 31, 34, 37)
    ]
    means = [mean_curve("x", rows, 2).of("psnr") for rows in (by_rate, by_quality)]
    assert bd_rate(*means).percent > 5
    assert mean_bd_rate(by_rate, by_quality, "psnr").percent == pytest.approx(0, abs=1e-6)


def test_published_curves_are_read_and_chosen():
    (curve,) = read_published(PUBLISHED, ["HM"])
    assert curve.published
    assert len(curve.points) == 8
    first = json.loads(PUBLISHED.read_text())["HM"][0]
    assert curve.points[0]["psnr"] == first["psnr"]
    assert curve.points[0]["ms_ssim_db"] == pytest.approx(-10 * math.log10(1 - first["ms_ssim"]))
    with pytest.raises(BadRequest, match="no curve 'VVC'"):
        read_published(PUBLISHED, ["VVC"])


@pytest.mark.parametrize(
    "text",
    [
        *("", "[1]", '{"a": 3}', '{"a": [{"psnr": 3}]}', '{"a": [{"bpp": -1, "psnr": 3}]}'),
        *('{"a": [{"bpp": 1, "psnr": NaN}]}', '{"a": [{"bpp": 1, "ms_ssim": Infinity}]}'),
        *('{"a": [{"bpp": 1, "ms_ssim": 14.2}]}', '{"a": [{"bpp": 1, "psnr-rgb": 30}]}'),
        *("[" * 100_000, '{"a": [{"bpp": 1' + "0" * 400 + ', "psnr": 3}]}'),
        *('{"a\\ud800": [{"bpp": 1, "psnr": 3}]}', '{"a\\u0001": [{"bpp": 1, "psnr": 3}]}'),
    ],
)
def test_a_file_without_curves_is_refused(tmp_path, text):
    path = tmp_path / "curves.json"
    path.write_text(text)
    with pytest.raises(BadRequest, match=r"curves\.json: not a file of published curves"):
        read_published(path)
    with pytest.raises(BadRequest, match="no such file"):
        read_published(tmp_path / "missing.json")


def test_a_mean_curve_read_as_a_published_one_is_the_same(tmp_path):
    rows = [
        {"digest": d, "setting": s, "bpp": s, "psnr": 30 + 5 * s + d, "ms_ssim": 1 - 0.1**s / d}
        for d in (1, 3)
        for s in (0.5, 1.0, 1.5)
    ]
    rows = [row | {"ms_ssim_db": -10 * math.log10(1 - row["ms_ssim"])} for row in rows]
    mean = mean_curve("x", rows, 2)
    path = tmp_path / "curves.json"
    points = [{k: p[k] for k in ("bpp", "psnr", "ms_ssim")} for p in mean.points]
    path.write_text(json.dumps({"x": points}))
    (published,) = read_published(path, ["x", "x"])
    for measure in ("psnr", "ms_ssim_db"):
        assert bd_rate(mean.of(measure), published.of(measure)).percent == pytest.approx(0)


def test_pictures_that_both_codecs_refuse_count_too():
    rows = [{"digest": "a", "bpp": bpp, "psnr": psnr} for bpp, psnr in CURVE]
    assert (mean_bd_rate(rows, rows, "psnr").of, mean_bd_rate(rows, rows, "psnr", 3).of) == (1, 3)


def test_a_published_picture_without_a_difference_has_no_decibels(tmp_path):
    path = tmp_path / "curves.json"
    path.write_text('{"a": [{"bpp": 1, "ms_ssim": 1.0}]}')
    (curve,) = read_published(path)
    assert curve.points[0]["ms_ssim_db"] is None


def test_a_curve_leaves_out_what_is_no_number():
    curve = Curve("x", ({"bpp": 1.0, "psnr": math.inf}, {"bpp": 2.0}, {"bpp": 3.0, "psnr": 40.0}))
    assert curve.of("psnr") == [(3.0, 40.0)]
