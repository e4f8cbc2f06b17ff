"""The page in a real browser without a network: no errors, hover values, and a slider that moves.

Runs where Chromium and the playwright package are installed (which drives the browser that is
there; none is downloaded). SCCODEC_BROWSER names another one.
"""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from conftest import picture
from PIL import Image

from sccodec.evaluate import comparison

pytest.importorskip("scipy", reason="the [eval] extra is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = os.environ.get("SCCODEC_BROWSER") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
if BROWSER is None:
    pytest.skip("no Chromium is installed", allow_module_level=True)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    Image.fromarray(picture(176, 192)).save(folder / "a.png")
    plan = comparison.Plan(
        [str(folder / "a.png")], ["scc@tiny-1", "jpeg"], [0.3, 0.5], timed=False, show=1
    )
    comparison.run(plan, folder / "report")
    return folder / "report" / "report.html"


@pytest.fixture
def tab(report):
    """The open page, offline; what it complains of is in `tab.complaints`."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        context = browser.new_context(offline=True, viewport={"width": 900, "height": 800})
        tab = context.new_page()
        tab.complaints = []
        tab.on("console", lambda message: tab.complaints.append(message.text))
        tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
        tab.on(
            "request",
            lambda r: r.url.startswith(("file:", "data:")) or tab.complaints.append(r.url),
        )
        tab.goto(report.as_uri())
        yield tab
        browser.close()


def test_the_page_works_offline(tab, tmp_path):
    slider = tab.locator(".slider")
    # At whole pixels, so that what is shown can be compared with what was decoded.
    slider.locator(".stage").evaluate("stage => stage.style = 'position: fixed; left: 0; top: 0'")
    slider.locator("select.left").select_option(label="original")
    right = slider.locator("img.right")
    assert right.evaluate("image => image.decode().then(() => image.naturalWidth)") == 192

    def shown(at: int) -> np.ndarray:
        slider.locator("input").fill(str(at))
        slider.locator(".bar").evaluate("bar => bar.style.visibility = 'hidden'")
        slider.locator(".stage").screenshot(path=tmp_path / "stage.png")
        return np.asarray(Image.open(tmp_path / "stage.png").convert("RGB"))

    left, middle, all_right = shown(100), shown(50), shown(0)
    np.testing.assert_array_equal(left, picture(176, 192))
    assert (left != all_right).any()
    np.testing.assert_array_equal(middle[:, :95], left[:, :95])
    np.testing.assert_array_equal(middle[:, 97:], all_right[:, 97:])
    slider.locator("select.right").select_option(label="original")
    right.evaluate("image => image.decode()")
    np.testing.assert_array_equal(shown(0), left)
    assert tab.complaints == []


def test_points_say_their_values_and_names_hide_curves(tab):
    circle = tab.locator(".plots circle").first
    circle.hover()
    words = tab.locator("#tip").inner_text()
    assert words.startswith("scc@tiny-1\n") and "bpp" in words
    curves = tab.locator('.plots [data-line="jpeg"]')
    assert curves.count() >= 3
    tab.locator('.plots [data-name="jpeg"]').first.click()
    assert not any(curve.is_visible() for curve in curves.all())
    tab.locator('.plots [data-name="jpeg"]').last.click()
    assert all(curve.is_visible() for curve in curves.all())
    name = tab.locator('.plots [data-name="jpeg"]').first
    for key, seen in (("Enter", False), (" ", True)):
        name.press(key)
        assert name.get_attribute("aria-pressed") == str(seen).lower()
        assert [curve.is_visible() for curve in curves.all()] == [seen] * curves.count()
    assert tab.complaints == []
