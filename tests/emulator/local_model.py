"""A small model server for the tests of local mode: Flask, served by gunicorn."""

from __future__ import annotations

import os
import time

from flask import Flask, Response, request

app = Flask(__name__)
sick: list[bool] = []


@app.get("/ping")
def ping() -> Response:
    """Healthy as soon as it is loaded, and until it is told otherwise."""
    return Response(status=503 if sick else 200)


@app.post("/invocations")
def invocations() -> Response:
    """Echo the request with the server's process id, or misbehave as the body asks."""
    body = request.get_data()
    if body == b"fail":
        return Response("the model is upset", status=418)
    if body == b"sicken":
        sick.append(True)
    if body == b"stream":
        return Response((f"part-{i} ".encode() for i in range(3)), content_type="text/plain")
    if body.startswith(b"sleep"):
        time.sleep(float(body.split()[1]))
    answer = Response(body, content_type=request.headers.get("Content-Type", "text/plain"))
    answer.headers["X-Amzn-SageMaker-Custom-Attributes"] = f"pid={os.getppid()}"
    return answer
