#!/usr/bin/env python3
"""Train small runs, and picture the page of their report: docs/img/report-*.png.

    scripts/screenshots.py FOLDER [--chromium FILE] [--no-training]

FOLDER gets the runs: 7 short ones on the synthetic sentences of the quick start. Runs that have
finished there are not trained again, and `--no-training` pictures any folder of runs as it is.
The pictures are those of headless Chromium, driven by Playwright: the light scheme, 900 pixels wide
(about the width of a page of documentation), cut to the part that they show.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "img"
PTV2 = ROOT / ".venv" / "bin" / "ptv2"
SHORT = "--set 'task.limit={train: 320, validation: 160}' --set train.epochs=4"
SWEEPS = [
    f"sweep configs/quickstart.yaml {SHORT} --unset train.lr --seed 11,12"
    " --grid method=ptuning_v2,head_only",
    f"sweep configs/quickstart.yaml {SHORT} --prompt-len 5,20 --lr 2e-2,6e-2",
]
FIGURES = ["Learning curves", "By share that trains", "ptuning_v2: ", "Confusion of"]
ONLY = """(titles) => {
  for (const figure of document.querySelectorAll("section.task figure")) {
    const title = figure.querySelector("figcaption").innerText;
    figure.hidden = !titles.some((begin) => title.startsWith(begin));
  }
}"""
OTHER_METHOD = """(mark) => {
  const method = (run) => run.title.split(" ")[0];
  const best = data.runs.find((run) => run.mark === mark);
  const fits = (run) => run.set === best.set && method(run) !== method(best);
  return data.runs.find(fits).mark;
}"""
WIDTH = 900
MARGIN = 12


def ptv2(*arguments: str, folder: Path = ROOT) -> None:
    """Run a command in a folder.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    subprocess.run([str(PTV2), *arguments], cwd=folder, env=environment, check=True)


def picture(page: Page, name: str, parts: Sequence[Locator], most: int = 1000) -> None:
    """Write the part of the page from the first to the last of some elements.

    Args:
        page: the report.
        name: of the picture.
        parts: elements that the picture holds; it is as wide as the page.
        most: pixels of height; what is below is cut off.
    """
    page.evaluate("document.activeElement.blur()")
    boxes = [box for part in parts if (box := part.bounding_box()) is not None]
    top = min(box["y"] for box in boxes) - MARGIN
    bottom = max(box["y"] + box["height"] for box in boxes) + MARGIN
    scrolled = page.evaluate("window.scrollY")
    clip = {"x": 0, "y": max(0, top + scrolled), "width": WIDTH, "height": min(most, bottom - top)}
    file = PICTURES / f"report-{name}.png"
    page.screenshot(path=file, full_page=True, clip=clip)
    print(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1000:.0f} kB")


def pictures(page: Page) -> None:
    """The table, plots of the first task, and the rows of two runs beside each other."""
    picture(page, "table", [page.locator("header"), page.locator("#table-settings")])
    page.evaluate(ONLY, FIGURES)
    task = page.locator("section.task").first
    picture(page, "plots", [task.locator("h2"), task.locator(".charts")])
    best = page.locator("#table-settings td.best a").first.get_attribute("href")
    other = page.evaluate(OTHER_METHOD, best.removeprefix("#run-"))
    page.goto(f"{page.url.partition('#')[0]}{best},{other}")
    page.locator("#differ").check()
    rows = page.locator("#wrong .row:visible")
    picture(page, "rows", [page.locator("#wrong h3"), rows.nth(min(4, rows.count() - 1))])


def main() -> None:
    """Train what is missing, write the report, and picture it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    parser.add_argument("--no-training", action="store_true")
    given = parser.parse_args()
    folder = given.folder.resolve()
    for sweep in [] if given.no_training else SWEEPS:
        ptv2(*shlex.split(sweep), "--output", str(folder))
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        file = Path(name) / "report.html"
        # The page shows paths as they are given: short ones.
        ptv2("report", folder.name, "--html", str(file), folder=folder.parent)
        browser = playwright.chromium.launch(executable_path=given.chromium, args=["--no-sandbox"])
        page = browser.new_page(
            viewport={"width": WIDTH, "height": 900}, color_scheme="light", reduced_motion="reduce"
        )
        page.goto(file.as_uri())
        pictures(page)
        browser.close()


if __name__ == "__main__":
    main()
