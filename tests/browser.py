"""A real browser for tests of pages: headless Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str:
    """The browser's program: PTV2_CHROMIUM, or the one on the PATH; skips the test without one."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    named = os.environ.get("PTV2_CHROMIUM")
    path = named or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium on the PATH; PTV2_CHROMIUM=FILE names one")
    return path


@contextmanager
def opened(program: str) -> Iterator[Any]:
    """A browser; it ends with the block."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def tab(browser: Any, address: str, **context: Any) -> Iterator[Any]:
    """A tab at an address; fails at its end if the page wrote an error to the console."""
    errors: list[str] = []
    with browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context}) as own:
        page = own.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda told: errors.append(told.text) if told.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        yield page
    assert errors == []
