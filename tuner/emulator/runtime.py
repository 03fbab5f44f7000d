"""SageMaker Runtime: InvokeEndpoint and its response stream."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator

import numpy as np

from tuner.emulator.account import Account
from tuner.emulator.capture import Recorder
from tuner.emulator.endpoint import Endpoint, Variant
from tuner.emulator.errors import AwsError
from tuner.emulator.faults import FaultPlan, Mishap
from tuner.emulator.http import Request
from tuner.emulator.modelclient import ModelAnswer
from tuner.emulator.spec import FaultKind
from tuner.emulator.streaming import Stream
from tuner.fleet.model import Completion, Fate
from tuner.fleet.service import endless_uniform

INVOCATIONS = b"/invocations"
RESPONSE_STREAM = b"/invocations-response-stream"
ASYNC_INVOCATIONS = b"/async-invocations"

_LOG_GROUP = "/aws/sagemaker/Endpoints/"


def endpoint_name(target: bytes) -> tuple[str, bytes]:
    """Split ``/endpoints/NAME/OPERATION`` into name and operation; empty when malformed."""
    path = target.partition(b"?")[0]
    name, slash, operation = path[len(b"/endpoints/") :].partition(b"/")
    if not slash or not name:
        return "", b""
    return name.decode("latin-1"), slash + operation


class Invocation:
    """One InvokeEndpoint on its way through a variant."""

    __slots__ = ("_runtime", "_started", "captured", "mishap", "model", "request", "stream",
                 "variant")  # fmt: skip

    def __init__(
        self,
        runtime: Runtime,
        request: Request,
        variant: Variant,
        mishap: Mishap | None,
        model: str | None = None,
    ) -> None:
        self._runtime = runtime
        self.request = request
        self.variant = variant
        self.mishap = mishap
        self.model = model
        self.captured = False
        self.stream: Stream | None = None

    @property
    def body(self) -> bytes:
        """The request body."""
        return self.request.body

    @property
    def streamed(self) -> bool:
        """Whether the answer is sent while it is being made."""
        return self.stream is not None

    def started(self, started_s: float, work_s: float) -> None:
        """The first part goes out after its share of the work, the others evenly."""
        if self.stream is not None:
            self.stream.pace(started_s, work_s)

    def model_headers(self) -> dict[str, str]:
        """What a container is given: content type, accept, custom attributes."""
        accept = b"x-amzn-sagemaker-accept" if self.streamed else b"accept"
        names = {
            "Content-Type": b"content-type",
            "Accept": accept,
            "X-Amzn-SageMaker-Custom-Attributes": b"x-amzn-sagemaker-custom-attributes",
            "X-Amzn-SageMaker-Inference-Id": b"x-amzn-sagemaker-inference-id",
            "X-Amzn-SageMaker-Session-Id": b"x-amzn-sagemaker-session-id",
        }
        given = self.request.headers
        return {name: given[key].decode("latin-1") for name, key in names.items() if key in given}

    def piece(self, data: bytes, content_type: str) -> None:
        """A piece of a streamed answer, as a real model sent it."""
        if self.stream is not None:
            self.stream.content_type = content_type
            self.stream.send(data)

    def finished(self, completion: Completion, answer: ModelAnswer | None = None) -> None:
        """The backend is done with it."""
        self._runtime.finished(self, completion, answer)


class Runtime:
    """Routes invocations to variants and writes their answers."""

    def __init__(
        self,
        account: Account,
        faults: FaultPlan,
        rng: np.random.Generator,
        fail: Callable[[Request, AwsError], None],
        request_id: Iterator[str],
    ) -> None:
        self._account = account
        self._faults = faults
        self._uniform = endless_uniform(rng)
        self.recorder = Recorder(account, rng.spawn(1)[0])
        self._fail = fail
        self._request_id = request_id
        self._control_at = account.clock.control_at
        response = account.spec.response
        self._body = response.body.encode()
        self._heads: dict[str, bytes] = {}

    def handle(self, request: Request) -> None:
        """Answer ``POST /endpoints/NAME/invocations`` and its relatives."""
        try:
            name, operation = endpoint_name(request.target)
            if request.method != b"POST":
                raise AwsError("UnknownOperationException", "Method is not allowed.", 405)
            if operation == ASYNC_INVOCATIONS:
                raise AwsError("ValidationError", f"Endpoint {name} is not an async endpoint.")
            if operation not in (INVOCATIONS, RESPONSE_STREAM):
                raise AwsError("UnknownOperationException", None, 404)
            endpoint = self._account.endpoints.get(name)
            if endpoint is None or not endpoint.serving:
                self._account.refresh()
                if endpoint is None or not endpoint.serving:
                    owner = self._account.spec.account_id
                    raise AwsError(
                        "ValidationError", f"Endpoint {name} of account {owner} not found."
                    )
            self._invoke(request, endpoint, streamed=operation == RESPONSE_STREAM)
        except AwsError as error:
            self._fail(request, error)

    def _invoke(self, request: Request, endpoint: Endpoint, *, streamed: bool) -> None:
        wanted = request.headers.get(b"x-amzn-sagemaker-target-variant")
        variant = self._pick(endpoint, None if wanted is None else wanted.decode("latin-1"))
        model = _target_model(request, endpoint, variant)
        mishap = None
        slowdown = 1.0
        if self._faults.live:
            mishap = self._faults.draw(endpoint.name)
            if mishap is not None and mishap.kind is FaultKind.THROTTLE:
                raise AwsError("ThrottlingException", None)
            if mishap is not None and mishap.kind is FaultKind.SLOW:
                slowdown = mishap.factor
        now_control_s, active = self._control_at(time.monotonic()), variant.backend.in_service
        variant.metrics.arrival(now_control_s, active)
        if variant.own is not None:
            variant.own.arrival(now_control_s, active)
        if mishap is not None and mishap.kind is FaultKind.RESET:
            request.reset()
            return
        invocation = Invocation(self, request, variant, mishap, model)
        if self.recorder.samples(endpoint):
            invocation.captured = True
            slowdown *= self.recorder.slowdown
        if streamed:
            invocation.stream = Stream(request, self._account.spec.response, variant.name)
        variant.backend.invoke(invocation, slowdown)

    def _pick(self, endpoint: Endpoint, wanted: str | None) -> Variant:
        variants = endpoint.variants
        rollout = endpoint.rollout
        if rollout is not None and next(self._uniform) < rollout.share:
            variants = rollout.variants
        if wanted is not None:
            if wanted not in variants:
                raise AwsError(
                    "ValidationError",
                    f"Variant {wanted} is not found in endpoint {endpoint.name}.",
                )
            return variants[wanted]
        if len(variants) == 1:
            return next(iter(variants.values()))
        total = sum(v.weight for v in variants.values())
        if total <= 0.0:
            raise AwsError(
                "ValidationError", f"Endpoint {endpoint.name} has no variant with weight."
            )
        mark = next(self._uniform) * total
        for variant in variants.values():
            mark -= variant.weight
            if mark < 0.0:
                return variant
        return next(v for v in reversed(variants.values()) if v.weight > 0.0)

    def _head(self, variant: str) -> bytes:
        head = self._heads.get(variant)
        if head is None:
            kind = self._account.spec.response.content_type
            head = (
                f"Content-Type: {kind}\r\nx-Amzn-Invoked-Production-Variant: {variant}\r\n"
            ).encode("latin-1", "replace")
            self._heads[variant] = head
        return head

    def finished(self, call: Invocation, end: Completion, model: ModelAnswer | None) -> None:
        """Write the answer and the metrics of an ended invocation."""
        error = self._model_error(call, end, model)
        status = 200
        if error is not None:
            status = int(str(error.members.get("OriginalStatusCode", error.status)))
        self._record(call, end, status)
        request = call.request
        if not request.open:
            return
        if error is not None:
            if call.stream is not None and call.stream.begun:
                call.stream.broken(str(error.message))
            else:
                self._fail(request, error)
        elif call.stream is not None:
            call.stream.complete(simulated=model is None)
        elif call.mishap is not None and call.mishap.kind is FaultKind.DRIP:
            self._drip(request, call)
        else:
            self._answer(call, model)

    def _answer(self, call: Invocation, model: ModelAnswer | None) -> None:
        request = call.request
        head = self._head(call.variant.name)
        body = self._body
        attributes = request.headers.get(b"x-amzn-sagemaker-custom-attributes", b"")
        if model is not None:
            head = (
                f"Content-Type: {model.content_type}\r\n"
                f"x-Amzn-Invoked-Production-Variant: {call.variant.name}\r\n"
            ).encode("latin-1", "replace")
            body = model.body
            attributes = model.custom_attributes.encode("latin-1", "replace")
        if call.captured:
            kind = model.content_type if model else self._account.spec.response.content_type
            self.recorder.keep(endpoint_name(request.target)[0], request, body, kind)
        if attributes:
            head += b"X-Amzn-SageMaker-Custom-Attributes: %b\r\n" % attributes
        request_id = next(self._request_id).encode()
        request.answer(200, b"x-amzn-RequestId: %b\r\n%b" % (request_id, head), body)

    def _model_error(
        self, call: Invocation, end: Completion, model: ModelAnswer | None
    ) -> AwsError | None:
        if model is not None and model.status >= 300:
            return self._wrapped(call, model.status, model.body.decode("utf-8", "replace"))
        if end.fate is Fate.NO_CAPACITY:
            return AwsError("ServiceUnavailable", "No instance is available.", 503)
        if end.fate is Fate.MODEL_NOT_READY:
            return AwsError("ModelNotReadyException", f"Model {call.model} is not ready.", 429)
        if end.fate is Fate.INSTANCE_LOST:
            return self._wrapped(call, 500, "The instance was lost before it answered.")
        if end.fate is Fate.QUEUE_FULL:
            return self._wrapped(call, 503, "Prediction queue is full.")
        if end.fate is Fate.TIMED_OUT:
            return self._wrapped(call, 0, "Your invocation timed out while waiting for a response")
        mishap = call.mishap
        if mishap is None or mishap.kind is not FaultKind.ERROR:
            return None
        if mishap.status == 503:
            return AwsError("ServiceUnavailable", "Injected fault.", 503)
        if mishap.status == 500:
            return AwsError("InternalFailure", "Injected fault.", 500)
        return self._wrapped(
            call, 500 if mishap.status == 424 else mishap.status, "Injected fault."
        )

    def _wrapped(self, call: Invocation, original: int, text: str) -> AwsError:
        """ModelError: the container's own status and words, inside a 424."""
        spec = self._account.spec
        name = endpoint_name(call.request.target)[0]
        group = f"{_LOG_GROUP}{name}"
        url = (
            f"https://{spec.region}.console.aws.amazon.com/cloudwatch/home?region={spec.region}"
            f"#logEventViewer:group={group}"
        )
        return AwsError(
            "ModelError",
            f"Received server error ({original}) from {call.variant.name} with message "
            f'"{text}". See {url} in account {spec.account_id} for more information.',
            424,
            OriginalStatusCode=original,
            OriginalMessage=text,
            LogStreamArn=f"arn:aws:logs:{spec.region}:{spec.account_id}:log-group:{group}",
        )

    def _record(self, call: Invocation, end: Completion, status: int) -> None:
        control_at = self._control_at
        metrics, own = call.variant.metrics, call.variant.own
        for each in (metrics,) if own is None else (metrics, own):
            each.answer(
                control_at(end.done_s),
                504 if status == 0 else status,
                end.served_s - end.arrived_s,
                end.done_s - end.served_s,
            )
        if end.cache_hit is not None:
            metrics.model_request(control_at(end.done_s), end.cache_hit, end.model_wait_s)
        if end.served_s > end.started_s:
            metrics.busy(control_at(end.started_s), control_at(end.served_s), end.worker_share)

    def _drip(self, request: Request, call: Invocation) -> None:
        """Send the answer a byte at a time over the fault's duration."""
        assert call.mishap is not None
        body = self._body or json.dumps({}).encode()
        head = self._head(call.variant.name)
        request.raw(
            b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n" % (head, len(body)), last=False
        )
        loop = asyncio.get_running_loop()
        step_s = call.mishap.drip_s / len(body)

        def send(position: int) -> None:
            if request.open:
                last = position + 1 == len(body)
                request.raw(body[position : position + 1], last=last)
                if not last:
                    loop.call_later(step_s, send, position + 1)

        loop.call_later(step_s, send, 0)


def _target_model(request: Request, endpoint: Endpoint, variant: Variant) -> str | None:
    """The model a request names; a multi-model endpoint refuses requests that name none."""
    if variant.spec.fleet.instance.models is None:
        return None
    given = request.headers.get(b"x-amzn-sagemaker-target-model", b"").decode("latin-1")
    if not 1 <= len(given) <= 1024:
        raise AwsError(
            "ValidationError",
            f"Endpoint {endpoint.name} is a multi-model endpoint: TargetModel must name a model "
            "in 1 to 1024 characters.",
        )
    return given
