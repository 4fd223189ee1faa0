"""The questions over HTTP, as JSON, for reading only."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest

from analytics.catalogue import CATALOGUE
from analytics.errors import BadParameterError, QuestionError, StoreUnavailableError, UnknownQuestionError
from analytics.pool import Pool
from analytics.question import questions
from analytics.store import run

_STATUS: Final[dict[type[QuestionError], int]] = {
    BadParameterError: 400,
    UnknownQuestionError: 404,
    StoreUnavailableError: 503,
}


def create_app(store_host: str, store_port: int, store_user: str = "default", store_password: str = "") -> FastAPI:
    """Return the application.

    Args:
        store_host: of the store's HTTP interface.
        store_port: likewise.
        store_user: who may read.
        store_password: of that user.

    """
    app = FastAPI(title="Sidetone", description="Questions about voice calls, answered from stored facts.", version="1")
    clients = Pool(store_host, store_port, store_user, store_password)
    registry = CollectorRegistry()
    asked = Counter("sidetone_api_questions", "Questions asked", ["question", "status"], registry=registry)
    took = Histogram("sidetone_api_question_seconds", "Time to an answer", ["question"], registry=registry)

    @app.exception_handler(QuestionError)
    def refuse(_request: Request, error: QuestionError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status_code=_STATUS.get(type(error), 500))

    @app.get("/v1/questions")
    def list_questions() -> dict[str, Any]:
        """Every question with its parameters and columns."""
        return {"questions": [question.to_dict() for question in questions()]}

    @app.get("/v1/questions/{name}")
    def ask(name: str, request: Request) -> dict[str, Any]:
        """Answer one question; its parameters are the query's, lists comma-separated or repeated."""
        # An unknown name must not become a label: whoever asks could make series without end.
        label = name if any(question.name == name for question in questions()) else "unknown"
        status, start = "error", time.perf_counter()
        try:
            with clients.one() as client:
                answer = run(client, name, _params(request))
            status = "ok"
            return answer.to_json()
        finally:
            took.labels(label).observe(time.perf_counter() - start)
            asked.labels(label, status).inc()

    @app.get("/v1/metrics")
    def list_metrics() -> dict[str, Any]:
        """Every metric with its definition."""
        return {
            "metrics": [
                {name: getattr(metric, name) for name in ("name", "group", "definition", "unit", "source", "version")}
                for metric in CATALOGUE.values()
            ]
        }

    @app.get("/healthz")
    def healthz() -> PlainTextResponse:
        """Say that the process is alive."""
        return PlainTextResponse("ok\n")

    @app.get("/readyz")
    def readyz() -> PlainTextResponse:
        """Say whether the store answers and has the tables."""
        with clients.one() as client:
            run(client, "answers_stored", {"from": "now-1m"})  # costs the same however much is stored
        return PlainTextResponse("ok\n")

    @app.get("/metrics")
    def metrics() -> Response:
        """Metrics of this process for Prometheus."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app


def _params(request: Request) -> Mapping[str, Any]:
    pairs: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        pairs[name] = f"{pairs[name]},{value}" if name in pairs else value
    return pairs
