"""What the API is compared with: the same server and framework, one route that answers a constant."""

from __future__ import annotations

from fastapi import FastAPI

ANSWER = {"id": "job_01K9RZ3V5X8N3Q2J6T4W7Y0ABC", "object": "job", "status": "succeeded"}

app = FastAPI()


@app.get("/constant")
def constant() -> dict[str, str]:
    return ANSWER


@app.get("/readyz")
def ready() -> dict[str, str]:
    return {"status": "ok"}
