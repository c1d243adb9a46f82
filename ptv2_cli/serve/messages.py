"""What clients send and get, for the page that describes the interface."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class PredictRequest(BaseModel):
    """Rows for one run."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"rows": [{"text": "It rains."}]}]})

    rows: list[dict[str, Any] | str | list[str]] = Field(
        description="Each row is an object of columns; a text, where the task reads one; or a list "
        "of texts, where it reads several."
    )


class PredictedRow(BaseModel):
    """A row and its prediction, as `ptv2 predict` writes them."""

    row: dict[str, Any]
    prediction: Any


class PredictAnswer(BaseModel):
    """The predictions of all rows, in their order."""

    run: str
    predictions: list[PredictedRow]


class ErrorDetail(BaseModel):
    """One thing that is wrong."""

    where: str = Field(description="Such as rows:3, the third row.")
    what: str
    hint: str = Field(description="What to do about it.")


class ErrorAnswer(BaseModel):
    """Why a request was refused."""

    errors: list[ErrorDetail]


class AddRequest(BaseModel):
    """A run to serve."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"directory": "runs/NAME"}]})

    directory: str = Field(description="Its folder, on the machine of the server.")
    name: str | None = Field(None, description="Its name in paths; default: the folder's name.")


class RunAnswer(BaseModel):
    """A run that is served."""

    name: str
    directory: str
    task: str
    kind: str
    method: str
    backbone: str
    columns: list[str] = Field(description="The columns of a row.")
    labels: list[str]
    metric: str = Field(description="Chose the epoch.")
    score: float | None = Field(description="Of that metric on the selection split, in [0, 1].")
    shares_backbone_with: list[str] = Field(description="Runs that use the same copy of it.")
    own_backbone_because: str | None = Field(description="Why no run can share its backbone.")


class RunsAnswer(BaseModel):
    """All runs that are served."""

    runs: list[RunAnswer]


class HealthAnswer(BaseModel):
    """How the server stands."""

    status: str = Field(description="ok, draining or failed.")
    runs: int
    rows_waiting: int
