#!/usr/bin/env python3
"""The page of 500 runs: seconds to make it, its bytes, and the time to its first paint.

    python benchmarks/report_page.py [--chromium FILE] [--repeats N]

The runs are those of tests/report/many_runs.py: five tasks, 50 settings each in two seeds, of
120 rows. The browser opens the file from the disk in a new window each time; the first paint is
what the browser itself reports (Paint Timing, W3C).
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "report")]

PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    from many_runs import five_hundred
    from playwright.sync_api import sync_playwright

    from ptv2_cli.report.build import build_report
    from ptv2_cli.report.html.page import page
    from ptv2_cli.report.runs import find_runs

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        five_hundred(folder)
        begun = time.process_time()
        found = find_runs([folder])
        report = build_report(found)
        built = time.process_time()
        text = page(report, found.unfinished)
        made = time.process_time()
        file = folder / "report.html"
        file.write_text(text, encoding="utf-8")
        print(f"runs: {len(found.runs)}")
        print(f"table with its tests: {built - begun:.1f} s of CPU")
        print(f"page: {made - built:.1f} s of CPU, {file.stat().st_size / 1e6:.2f} MB")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=asked.chromium, args=["--no-sandbox"]
            )
            times = []
            for _ in range(asked.repeats):
                tab = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
                tab.goto(file.as_uri())
                times.append(tab.evaluate(PAINT) / 1000)
            browser.close()
        print(
            f"first paint: median {statistics.median(times):.2f} s, most {max(times):.2f} s "
            f"of {asked.repeats}"
        )


if __name__ == "__main__":
    main()
