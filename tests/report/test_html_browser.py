"""The page of a report in a real browser: sorts, filters, opens runs, runs no text as script."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, opened, tab
from many_runs import HOSTILE, a_few, hostile

from ptv2_cli.report.build import build_report
from ptv2_cli.report.html.page import page
from ptv2_cli.report.runs import find_runs

SERIOUS = {"serious", "critical"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with opened(chromium()) as found:
        yield found


def written(folder: Path) -> str:
    """The page of the runs in a folder; the address of its file."""
    found = find_runs([folder])
    file = folder / "report.html"
    file.write_text(page(build_report(found), found.unfinished), encoding="utf-8")
    return file.as_uri()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("runs")
    a_few(folder)
    return written(folder)


def column(shown: Any, table: str, at: int) -> list[str]:
    """The texts of a column's visible cells."""
    cells = shown.locator(f"{table} tbody tr:not([hidden]) > :nth-child({at})")
    return [
        re.sub(r"\s*(±|[*~?(]|not|within|best).*", "", text) for text in cells.all_inner_texts()
    ]


def test_a_click_sorts_and_another_turns_the_order(browser: Any, address: str) -> None:
    with tab(browser, address) as shown:
        heading = shown.locator("#table-settings th", has_text="cb")
        heading.get_by_role("button").click()
        assert heading.get_attribute("aria-sort") == "descending"
        assert column(shown, "#table-settings", 5) == ["83.3", "66.7", "50.0", "50.0", "33.3"]
        heading.get_by_role("button").click()
        assert heading.get_attribute("aria-sort") == "ascending"
        assert column(shown, "#table-settings", 5) == ["33.3", "50.0", "50.0", "66.7", "83.3"]
        prompt = shown.locator("#table-settings th", has_text="prompt").first
        prompt.get_by_role("button").click()
        assert heading.get_attribute("aria-sort") is None
        # Finetune has no prompt: it stands last in either order.
        assert column(shown, "#table-settings", 1)[-1] == "finetune"


def test_the_keyboard_alone_sorts_and_opens_a_run(browser: Any, address: str) -> None:
    with tab(browser, address) as shown:
        shown.locator("#table-settings th button").first.focus()
        shown.keyboard.press("Enter")
        first = shown.locator("#table-settings th").first
        assert first.get_attribute("aria-sort") == "ascending"
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert shown.evaluate(outline) == "solid"
        shown.locator("#table-runs tbody a").first.focus()
        shown.keyboard.press("Enter")
        assert shown.evaluate("document.activeElement.id") == "detail-title"
        assert shown.locator("#detail-content table").count() > 1


def test_filters_by_task_method_and_text(browser: Any, address: str) -> None:
    with tab(browser, address) as shown:
        status = shown.locator("#shown")
        assert status.inner_text() == "5 of 5 settings, 8 of 8 runs shown"
        shown.locator("#filter-task").select_option(label="conll2003")
        assert status.inner_text() == "1 of 5 settings, 1 of 8 runs shown"
        assert shown.locator("section.task:visible h2").all_inner_texts() == ["conll2003"]
        assert not shown.locator("#table-settings th", has_text="cb").is_visible()
        shown.get_by_role("button", name="Show all").click()
        shown.locator("#filter-method").select_option("finetune")
        assert status.inner_text() == "1 of 5 settings, 1 of 8 runs shown"
        shown.locator("#filter-method").select_option("")
        shown.locator("#filter-text").fill("P100 lr")
        assert status.inner_text() == "2 of 5 settings, 3 of 8 runs shown"
        shown.locator("#filter-text").fill("lr 0.03 s12")
        assert status.inner_text() == "0 of 5 settings, 1 of 8 runs shown"


def test_a_run_alone_and_beside_another(browser: Any, address: str) -> None:
    with tab(browser, address) as shown:
        shown.locator("#table-runs a", has_text="run-finetune").click()
        detail = shown.locator("#detail-content")
        text = detail.inner_text()
        assert "3 of 6 rows are wrong" in text
        assert "--resume never" in text
        assert "a" * 64 in text
        assert "premise 0" in text
        assert "contradiction (0.70); gold has 0.15" in text
        mark = shown.locator("#run-a").input_value()
        assert shown.evaluate("location.hash") == f"#run-{mark}"
        shown.locator("#run-b").select_option(index=2)
        text = detail.inner_text()
        assert "What differs" in text
        assert text.count("ptv2 errors") == 2
        assert re.search(r"method.name\s+finetune\s+ptuning_v2", text)
        before = shown.locator("#wrong .row:visible").count()
        shown.locator("#differ").check()
        assert 0 < shown.locator("#wrong .row:visible").count() < before
        assert "right (0.70)" in text
        assert shown.locator("#detail-content figure svg").count() >= 1


def test_an_address_opens_its_runs(browser: Any, address: str) -> None:
    with tab(browser, address) as shown:
        marks = shown.evaluate("data.runs.slice(0, 2).map((run) => run.mark)")
    with tab(browser, f"{address}#run-{','.join(marks)}") as shown:
        assert [shown.locator(f"#run-{one}").input_value() for one in "ab"] == marks
        assert "What differs" in shown.locator("#detail-content").inner_text()


def test_texts_of_runs_are_never_run(browser: Any, tmp_path: Path) -> None:
    hostile(tmp_path)
    with tab(browser, written(tmp_path)) as shown:
        shown.locator("#table-runs tbody a").first.click()
        shown.locator("#run-b").select_option(index=2)
        for summary in shown.locator("summary").all():
            summary.click()
        assert HOSTILE in shown.locator("#wrong").inner_text()
        assert HOSTILE in shown.locator("#table-settings").inner_text()
        assert shown.title() == "Report of 2 runs - ptv2"
        assert shown.locator("img").count() == 0
        assert shown.locator("script").count() == 2


def test_no_script_of_others_runs_even_if_it_is_in_the_page(browser: Any, tmp_path: Path) -> None:
    a_few(tmp_path)
    address = written(tmp_path)
    file = tmp_path / "report.html"
    bad = "<script>document.title = 'taken'</script></main>"
    file.write_text(file.read_text().replace("</main>", bad))
    with browser.new_context() as context:
        shown = context.new_page()
        shown.goto(address)
        assert shown.title() == "Report of 8 runs - ptv2"


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_screen_in_both_schemes(
    browser: Any, address: str, width: int, scheme: str
) -> None:
    size = {"width": width, "height": 844}
    with tab(browser, address, viewport=size, color_scheme=scheme) as shown:
        shown.locator("#table-runs tbody a").first.click()
        shown.locator("#run-b").select_option(index=2)
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        paper = shown.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", paper))) > 384) == (scheme == "light")


def test_without_script_the_tables_and_plots_are_whole(browser: Any, address: str) -> None:
    with tab(browser, address, java_script_enabled=False) as shown:
        assert shown.locator("#table-settings tbody tr").count() == 5
        assert shown.locator("section.task figure svg").count() > 4
        assert not shown.locator("#filters").is_visible()
        assert not shown.locator("#detail").is_visible()


def test_print_leaves_out_what_paper_cannot_do(browser: Any, address: str) -> None:
    with tab(browser, address, color_scheme="dark") as shown:
        shown.emulate_media(media="print", color_scheme="dark")
        assert not shown.locator("#filters").is_visible()
        assert (
            shown.evaluate("getComputedStyle(document.body).backgroundColor")
            == "rgb(255, 255, 255)"
        )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, address: str, scheme: str) -> None:
    axe = os.environ.get("PTV2_AXE")
    if axe is None:
        pytest.skip("PTV2_AXE=FILE names axe.min.js of the npm package axe-core")
    with tab(browser, address, color_scheme=scheme, bypass_csp=True) as shown:
        shown.locator("#table-runs tbody a").first.click()
        shown.locator("#run-b").select_option(index=2)
        for summary in shown.locator("summary").all():
            summary.click()
        shown.evaluate(Path(axe).read_text(encoding="utf-8"))
        found = shown.evaluate("axe.run()")["violations"]
        serious = [one for one in found if one["impact"] in SERIOUS]
        assert serious == [], json.dumps(serious, indent=1)[:2000]
