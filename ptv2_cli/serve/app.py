"""The application: paths, what they answer, and how errors become JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ptv2_cli.serve import messages
from ptv2_cli.serve.access import Access, below
from ptv2_cli.serve.bodies import UnreadBodies, gone, read_body
from ptv2_cli.serve.measures import OTHER
from ptv2_cli.serve.page import page
from ptv2_cli.serve.refusal import Refusal
from ptv2_cli.serve.rows import checked_rows, json_body
from ptv2_cli.serve.service import ServedRun, Service
from ptv2_cli.version import __version__

ABOUT = "Predictions of finished ptv2 runs. Runs on the same backbone share one copy of it."
LOG = logging.getLogger("ptv2.serve")
CLIENT_GONE = 499
"""Status for the counters alone: nobody reads the answer."""


def build_app(service: Service, access: Access) -> ASGIApp:
    """The application of a service."""
    app = FastAPI(
        title="ptv2 serve", description=ABOUT, version=__version__, docs_url=None, redoc_url=None
    )
    _add_predictions(app, service)
    _add_runs(app, service, access)
    _add_state(app, service)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _no_such_path)
    app.add_exception_handler(Exception, _failed)
    return UnreadBodies(_Guarded(app, service, access), service.limits)


def _errors(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": messages.ErrorAnswer} for code in codes}


def _body(model: type[Any]) -> dict[str, Any]:
    """What the page says of a body that this module reads by itself."""
    schema = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": schema}}


def _add_predictions(app: FastAPI, service: Service) -> None:
    @app.post(
        "/predict/{run}",
        summary="Predict rows with a run.",
        response_model=messages.PredictAnswer,
        responses=_errors(400, 404, 408, 413, 422, 503, 504),
        openapi_extra=_body(messages.PredictRequest),
    )
    async def predict(run: str, request: Request) -> Response:
        began, served = time.monotonic(), service.find(run)
        service.check_room()
        try:
            async with asyncio.timeout(service.limits.timeout):
                body = await read_body(request, service.limits, service.bodies)
                rows = checked_rows(body, served.model, service.limits)
                lines = await _unless_gone(service.predict(served, rows), request)
        except TimeoutError:
            what = f"took more than {service.limits.timeout:g} s"
            raise Refusal.of(504, "the answer", what, "send fewer rows, or try later") from None
        if lines is None:
            return Response(status_code=CLIENT_GONE)
        service.measures.rows.labels(run).inc(len(lines))
        service.measures.seconds.labels(run).observe(time.monotonic() - began)
        return _json({"run": run, "predictions": lines})


async def _unless_gone(answer: Awaitable[Any], request: Request) -> Any:
    """The answer; None if the client closes the connection before: its rows leave the queue."""
    waiting = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(gone(request))
    try:
        await asyncio.wait((waiting, leaving), return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else None
    finally:
        waiting.cancel()
        leaving.cancel()
        await asyncio.wait((waiting, leaving))


def _add_runs(app: FastAPI, service: Service, access: Access) -> None:
    @app.get("/runs", summary="List the runs that are served.", response_model=messages.RunsAnswer)
    async def list_runs() -> Response:
        return _json({"runs": [_described(run, service) for run in service.runs.values()]})

    @app.post(
        "/runs",
        status_code=201,
        summary="Serve a further run.",
        response_model=messages.RunAnswer,
        responses=_errors(400, 403, 408, 409, 413, 415, 422, 503),
        openapi_extra=_body(messages.AddRequest),
    )
    async def add_run(request: Request) -> Response:
        access.check_change(request.headers, service.roots)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # which a web page of another site cannot send
            hint = "send the header Content-Type: application/json"
            raise Refusal.of(415, "the body", "is not said to be JSON", hint)
        such_as = 'such as {"directory": "runs/NAME"}'
        body = await read_body(request, service.limits, service.bodies)
        content = json_body(body, {"directory": True, "name": False}, such_as)
        for key, value in content.items():
            if not isinstance(value, str) and not (key == "name" and value is None):
                raise Refusal.of(422, key, "is no text", such_as)
        path = below(Path(content["directory"]), service.roots)
        run = await service.add(path, content.get("name"))
        return _json(_described(run, service), 201)

    @app.delete(
        "/runs/{run}",
        status_code=204,
        summary="Serve a run no more; requests that it has are answered first.",
        responses=_errors(403, 404),
    )
    async def remove_run(run: str, request: Request) -> Response:
        access.check_change(request.headers, service.roots)
        await service.remove(run)
        return Response(status_code=204)


def _described(run: ServedRun, service: Service) -> dict[str, Any]:
    """What a client needs to know of a run; see `RunAnswer`."""
    model = run.model
    metrics, task = model.run.metrics, model.run.task
    others = [
        other.name
        for other in service.runs.values()
        if other is not run and other.model.group is model.group
    ]
    return {
        "name": run.name,
        "directory": str(model.run.directory),
        "task": metrics["task"]["name"],
        "kind": task.kind,
        "method": metrics["method"],
        "backbone": metrics["backbone"]["name"],
        "columns": list(task.columns),
        "labels": list(task.labels),
        "metric": metrics["selection"]["metric"],
        "score": metrics["selection"]["value"],
        "shares_backbone_with": others,
        "own_backbone_because": model.unshared,
    }


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get(
        "/health",
        summary="Whether the server answers; 503 while it stops. It needs no token.",
        response_model=messages.HealthAnswer,
        responses={503: {"model": messages.HealthAnswer}},
    )
    async def health() -> Response:
        status = "draining" if service.draining else "ok"
        status = status if service.batcher.alive else "failed"
        content = {
            "status": status,
            "runs": len(service.runs),
            "rows_waiting": service.batcher.rows_waiting,
        }
        return _json(content, 200 if status == "ok" else 503)

    @app.get("/metrics", summary="Counters for Prometheus.", response_class=Response)
    async def metrics() -> Response:
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return Response(service.measures.text(), media_type=kind)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(page(app.openapi()))


def _json(content: Any, status: int = 200) -> Response:
    body = json.dumps(content, ensure_ascii=False, default=str).encode()
    return Response(body, status, media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return refused(error)


def refused(error: Refusal) -> Response:
    """The answer to a request that is refused."""
    response = _json(error.content, error.status)
    response.headers.update(error.headers)
    return response


async def _no_such_path(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = {404: "there is no such path", 405: f"the path does not take {request.method}"}
    what = words.get(error.status_code, str(error.detail))
    where = f"{request.method} {request.url.path[:200]}"
    refusal = Refusal.of(error.status_code, where, what, "GET /docs describes all paths")
    refusal.headers.update(error.headers or {})
    return refused(refusal)


async def _failed(request: Request, error: Exception) -> Response:
    hint = "the log of the server says why; please report it"
    return refused(Refusal.of(500, "", "this is a bug in ptv2", hint))


class _Guarded:
    """The application behind the check of the token; counts requests and reports defects."""

    def __init__(self, app: ASGIApp, service: Service, access: Access) -> None:
        self._app, self._service, self._access = app, service, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status = 0

        async def answering(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        request = Request(scope)
        try:
            self._access.check(scope["path"], request.headers)
            await self._app(scope, receive, answering)
        except Refusal as error:
            await refused(error)(scope, receive, answering)
        except ClientDisconnect:
            status = CLIENT_GONE
        except Exception:
            LOG.exception("a request failed: %s %s", scope["method"], scope["path"][:200])
        finally:
            path = getattr(scope.get("route"), "path", OTHER)
            self._service.measures.requests.labels(path, str(status)).inc()
