"""The command line as a fuzzer sees it: it may refuse its input, but it may not break."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stderr, redirect_stdout

import pytest
from hypothesis import settings

from ptv2_cli.cli import app
from ptv2_cli.errors import EXIT_DEFECT, EXIT_INPUT

EFFORT = int(os.environ.get("PTV2_FUZZ") or 1)
"""How many times the usual number of examples are tried; 1: the same ones in every run."""


def examples(count: int) -> settings:
    """Try `count` examples, or as many times more as PTV2_FUZZ says."""
    return settings(max_examples=count * EFFORT)


class Commands:
    """`commands("check", path)`: the command's exit code: 0, 2, or 1 as the answer of some.

    Whatever is not of errors.py is raised as it is, so that its place tells two defects apart.
    """

    said: str
    """What the last command told on standard error."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        told = app._defect

        def tell(error: Exception, debug: bool) -> int:
            code = told(error, debug)
            if code != EXIT_INPUT:
                raise error
            return code

        patch.setattr(app, "_defect", tell)

    def __call__(self, *words: object) -> int:
        # As Python opens them: what standard output cannot encode is an error.
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
        with redirect_stdout(out), redirect_stderr(err):
            code = app.run([str(word) for word in words])
        err.seek(0)
        said = self.said = err.read()
        assert code in (0, EXIT_DEFECT, EXIT_INPUT), said
        assert "Traceback" not in said, said
        assert code == 0 or said.strip(), "refused without a word"
        return code
