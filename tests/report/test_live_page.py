"""The live page: made again only when runs change; in a browser it keeps the reader's place."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from browser import chromium, opened, tab
from made import unfinished, write
from many_runs import a_few, cb

from ptv2_cli.report.html import live_page
from ptv2_cli.report.html.live_page import LivePage
from ptv2_cli.report.html.server import PageServer


@contextmanager
def served(folder: Path) -> Iterator[PageServer]:
    with PageServer(LivePage(folder), 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def evaluate(run: Path, *scores: float) -> None:
    """Add evaluations to a run that goes on."""
    with (run / "history.jsonl").open("a") as file:
        for at, score in enumerate(scores):
            line = {"epoch": at + 1.0, "step": at, "metrics": {"accuracy": score}}
            file.write(json.dumps(line) + "\n")


def test_a_change_of_a_run_is_a_new_version(tmp_path: Path) -> None:
    page = LivePage(tmp_path)
    versions = [page.version()]
    cb(tmp_path, (1,))
    versions.append(page.version())
    run = unfinished(tmp_path)
    versions.append(page.version())
    evaluate(run, 0.5)
    versions.append(page.version())
    assert len(set(versions[:2] + versions[3:])) == 3
    assert versions[-1] == page.version()
    assert f'content="{versions[-1]}"' in page.content().decode()


def test_the_report_is_built_only_when_a_run_has_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[int] = []
    real = live_page.build_report
    monkeypatch.setattr(live_page, "build_report", lambda found: built.append(1) or real(found))
    cb(tmp_path, (1,))
    run = unfinished(tmp_path)
    page = LivePage(tmp_path)
    first = page.content()
    assert page.content() is first
    evaluate(run, 0.25)
    assert b"accuracy 25.0" in page.content()
    assert len(built) == 1
    cb(tmp_path, (2,), seed=12)
    assert b"Report of 2 runs" in page.content()
    assert len(built) == 2


def test_a_damaged_run_is_named_and_hides_no_other(tmp_path: Path) -> None:
    cb(tmp_path, (1,))
    bad = cb(tmp_path, (2,), seed=12)
    (bad / "metrics.json").write_text("{")
    text = LivePage(tmp_path).content().decode()
    assert "Report of 1 run<" in text
    assert "is no metrics.json of a ptv2 run" in text


def test_nothing_has_finished(tmp_path: Path) -> None:
    evaluate(unfinished(tmp_path), 0.5)
    text = LivePage(tmp_path).content().decode()
    assert "No run has finished yet" in text
    assert "killed" in text
    assert "No run has finished yet" in LivePage(tmp_path / "missing").content().decode()


def test_only_this_machine_is_answered(tmp_path: Path) -> None:
    cb(tmp_path, (1,))
    with served(tmp_path) as server:
        assert server.server_address[0] == "127.0.0.1"
        request = urllib.request.Request(server.address, headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{server.address}metrics.json")
        with urllib.request.urlopen(server.address) as answer:
            assert answer.headers["Cache-Control"] == "no-store"


def test_a_new_run_appears_and_the_reader_stays_where_they_are(tmp_path: Path) -> None:
    program = chromium()
    a_few(tmp_path)
    run = tmp_path / "killed"
    with (
        served(tmp_path) as server,
        opened(program) as browser,
        tab(browser, server.address, reduced_motion="reduce") as shown,
    ):
        shown.locator("#filter-method").select_option("ptuning_v2")
        heading = shown.locator("#table-settings th", has_text="cb")
        heading.get_by_role("button").click()
        shown.locator("#table-runs tbody tr:not([hidden]) a").last.click()
        chosen = shown.locator("#run-a").input_value()
        shown.locator("details summary").first.click()
        shown.locator("#filter-text").fill("p100")
        shown.locator("#filter-text").focus()
        shown.evaluate("window.scrollTo({top: 300, behavior: 'instant'})")
        shown.evaluate("window.before = document.getElementById('content')")
        evaluate(run, 0.5, 0.75)
        cb(tmp_path, (5,), seed=13, prompt_len=100, train__lr=0.03)
        shown.get_by_text("Report of 9 runs").wait_for()
        assert shown.evaluate("window.before !== document.getElementById('content')")
        assert shown.locator("#filter-method").input_value() == "ptuning_v2"
        assert shown.locator("#filter-text").input_value() == "p100"
        assert "4 of 9 runs shown" in shown.locator("#shown").inner_text()
        assert shown.locator("#run-a").input_value() == chosen
        assert shown.locator("#detail-content table").count() > 1
        heading = shown.locator("#table-settings th", has_text="cb")
        assert heading.get_attribute("aria-sort") == "descending"
        assert shown.locator("details[open]").count() == 1
        assert shown.evaluate("document.activeElement.id") == "filter-text"
        assert shown.evaluate("window.scrollY") == 300
        assert "accuracy 75.0" in shown.locator("table", has_text="last change").inner_text()


def test_the_chosen_task_stays_if_another_comes_before_it(tmp_path: Path) -> None:
    program = chromium()
    a_few(tmp_path)
    with (
        served(tmp_path) as server,
        opened(program) as browser,
        tab(browser, server.address) as shown,
    ):
        shown.locator("#filter-task").select_option(label="cb")
        write(tmp_path, task="a/first", history=[0.5])
        shown.get_by_text("Report of 9 runs").wait_for()
        assert shown.locator("section.task:visible h2").all_inner_texts() == ["cb"]


def test_a_server_that_went_away_is_said(tmp_path: Path) -> None:
    program = chromium()
    write(tmp_path, history=[0.5])
    with opened(program) as browser, browser.new_context() as context:
        shown = context.new_page()
        with served(tmp_path) as server:
            shown.goto(server.address)
            assert shown.locator("#live").inner_text() == "Renewed as runs go on."
        shown.get_by_text("ptv2 watch does not answer").wait_for()
        assert shown.locator("#table-runs tbody tr").count() == 1
