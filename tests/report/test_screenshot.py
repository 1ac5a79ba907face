"""The report in a real browser, wide and narrow: it is drawn without horizontal overflow."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import matplotlib.image as mpimg
import numpy as np
import pytest

from zigong.report.run_report import RunReport
from zigong.report.write_report import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HEIGHT = 6000
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here: .ci/browser.sh installs it"),
]


def pictured(page: Path, picture: Path, width: int) -> np.ndarray:
    """The page as the browser draws it: height x width x RGB, 0 to 1."""
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1")
    profile = picture.with_suffix(".profile")
    subprocess.run(
        [str(BROWSER), *flags, f"--user-data-dir={profile}", f"--window-size={width},{HEIGHT}",
         f"--screenshot={picture}", page.as_uri()],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    return np.asarray(mpimg.imread(picture))[..., :3]


@pytest.mark.parametrize("width", [1280, 500])
def test_the_report_is_drawn_without_horizontal_overflow(full_report: RunReport, tmp_path: Path, width: int) -> None:
    page = write_report(full_report, tmp_path / "report.html")
    drawn = pictured(page, tmp_path / f"report-{width}.png", width)
    assert drawn.shape[:2] == (HEIGHT, width)
    background = drawn[2, 2]
    inked = np.abs(drawn - background).max(axis=2) > 0.05
    rows = inked.any(axis=1)
    assert rows[:200].any(), "the top of the page is empty"
    assert rows.mean() > 0.25, "most of the page is empty"
    assert not inked[:, -4:].any(), "something reaches the right edge"
    colours = {tuple(pixel) for pixel in (drawn[::7, ::7].reshape(-1, 3) * 15).round().astype(int).tolist()}
    assert len(colours) > 8, "text without charts"
