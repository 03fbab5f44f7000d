"""boto3 clients that can only do what is listed, and AWS's errors as EndpointError."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import boto3
import botocore.exceptions as boto_errors
from botocore.config import Config

from tuner.endpoints.operations import ALLOWED
from tuner.endpoints.protocol import AwsError
from tuner.endpoints.urls import is_loopback, split_http_url
from tuner.errors import EndpointError

P = ParamSpec("P")
T = TypeVar("T")

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 10.0
ATTEMPTS = 5
LOCAL_REGION = "us-east-1"

THROTTLES = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "LimitExceeded",
    }
)
TRANSIENT = THROTTLES | {
    "InternalFailure",
    "InternalError",
    "InternalServerError",
    "InternalServiceException",
    "InternalServiceError",
    "ServiceUnavailable",
    "ServiceException",
    "ConcurrentUpdateException",
    "RequestTimeout",
    "RequestTimeoutException",
}
"""Codes that say: the same call may succeed in a moment."""

DENIED = frozenset(
    {"AccessDeniedException", "AccessDenied", "UnauthorizedOperation", "NotAuthorized"}
)
BAD_CREDENTIALS = frozenset(
    {
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "IncompleteSignature",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
    }
)


def refuse_unlisted(model: Any, **_: object) -> None:
    """Stop a call to any operation that :mod:`tuner.endpoints.operations` does not list."""
    if model.name not in ALLOWED:
        raise EndpointError(
            "tuner must not call this AWS operation",
            value=model.name,
            allowed="the operations in tuner/endpoints/operations.py",
        )


class Aws:
    """One boto3 session and the control-plane clients made from it.

    A loopback ``endpoint_url`` (an emulator) needs neither credentials nor a region.
    """

    def __init__(
        self,
        *,
        region: str | None = None,
        profile: str | None = None,
        endpoint_url: str | None = None,
        attempts: int = ATTEMPTS,
    ) -> None:
        self.endpoint_url = endpoint_url or os.environ.get("AWS_ENDPOINT_URL") or None
        if self.endpoint_url is not None and split_http_url(self.endpoint_url) is None:
            raise EndpointError(
                "not the URL of an AWS service or emulator",
                value=self.endpoint_url,
                allowed="http://HOST[:PORT] or https://HOST[:PORT]",
            )
        self.local = is_loopback(self.endpoint_url)
        keys: dict[str, Any] = {}
        if self.local and profile is None:
            # Looking for credentials asks the EC2 metadata address, seconds on a laptop.
            keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
        self.session, found = _session(region, profile, keys)
        if found is None and self.local:
            found = LOCAL_REGION
        if found is None:
            raise EndpointError(
                "no AWS region is given",
                allowed="[endpoint] region, AWS_REGION, or a region in the AWS profile",
                hint='add region = "us-east-1" (or yours) to [endpoint]',
            )
        self.region = found
        self.config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"mode": "standard", "total_max_attempts": attempts},
        )
        self.sagemaker = self._made(
            lambda: self.session.client(
                "sagemaker", self.region, endpoint_url=self.endpoint_url, config=self.config
            )
        )
        self.autoscaling = self._made(
            lambda: self.session.client(
                "application-autoscaling",
                self.region,
                endpoint_url=self.endpoint_url,
                config=self.config,
            )
        )

    def client(self, service: str, region: str | None = None) -> Any:
        """A guarded client of a service that few commands need."""
        make: Any = self.session.client
        where = region or self.region
        return self._made(
            lambda: make(service, where, endpoint_url=self.endpoint_url, config=self.config)
        )

    @staticmethod
    def _made(make: Callable[[], T]) -> T:
        """Make a client that refuses what is not listed; malformed settings are explained."""
        try:
            client = make()
        except boto_errors.BotoCoreError as error:
            raise map_error(error, "client") from error
        guarded: Any = client
        guarded.meta.events.register_first("before-parameter-build", refuse_unlisted)
        return client

    def credentials_method(self) -> str:
        """How the credentials were found (``env``, ``iam-role``, ``sso`` and so on).

        Raises
        ------
        EndpointError
            If there are none.
        """
        try:
            credentials = self.session.get_credentials()
        except boto_errors.BotoCoreError as error:
            raise map_error(error, "credentials") from error
        if credentials is None:
            raise no_credentials()
        return str(credentials.method)


def _session(
    region: str | None, profile: str | None, keys: dict[str, Any]
) -> tuple[boto3.Session, str | None]:
    # Every AWS tool but boto3 knows AWS_REGION; boto3 reads AWS_DEFAULT_REGION only.
    region = region or os.environ.get("AWS_REGION") or None
    try:
        session = boto3.Session(profile_name=profile, region_name=region, **keys)
        return session, session.region_name
    except boto_errors.ProfileNotFound as error:
        raise EndpointError(
            "the AWS profile does not exist",
            value=profile or os.environ.get("AWS_PROFILE"),
            allowed="a profile of ~/.aws/config or ~/.aws/credentials",
            hint="run `aws configure list-profiles`",
        ) from error
    except boto_errors.BotoCoreError as error:
        raise EndpointError(
            f"the AWS configuration cannot be used: {error}",
            hint="run `aws configure list` and repair what it complains about",
        ) from error


def no_credentials() -> EndpointError:
    """The message for a machine without AWS credentials."""
    return EndpointError(
        "no AWS credentials were found",
        allowed="environment variables, an AWS profile, SSO, or a role of the machine",
        hint="run `aws sts get-caller-identity` until it answers, then try again",
    )


def call(operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a client's method; every botocore error becomes an EndpointError.

    Raises
    ------
    EndpointError
        With AWS's own code as ``value`` (:class:`AwsError`), or a clear message for missing
        credentials.
    """
    try:
        return operation(*args, **kwargs)
    except (boto_errors.ClientError, boto_errors.BotoCoreError) as error:
        raise map_error(error, getattr(operation, "__name__", "call")) from error


def pages(client: Any, operation: str, result: str, **kwargs: object) -> list[Any]:
    """All items under ``result`` of a paged operation, with :func:`call`'s errors."""
    items: list[Any] = []
    try:
        for page in client.get_paginator(operation).paginate(**kwargs):
            items.extend(page.get(result) or ())
    except (boto_errors.ClientError, boto_errors.BotoCoreError) as error:
        raise map_error(error, operation) from error
    return items


def map_error(
    error: boto_errors.ClientError | boto_errors.BotoCoreError, operation: str
) -> EndpointError:
    """The EndpointError for one of botocore's."""
    if isinstance(error, boto_errors.ClientError):
        return _from_answer(error)
    if isinstance(error, (boto_errors.NoCredentialsError, boto_errors.PartialCredentialsError)):
        return no_credentials()
    if isinstance(error, (boto_errors.HTTPClientError, boto_errors.ConnectionError)):
        return AwsError(
            f"AWS did not answer {operation}: {error}",
            code=type(error).__name__,
            operation=operation,
            transient=True,
            hint="check the network, the region and the endpoint URL",
        )
    return AwsError(
        f"{operation} could not be sent: {error}",
        code=type(error).__name__,
        operation=operation,
        hint="check the credentials, the region and the names in [endpoint]",
    )


def _from_answer(error: boto_errors.ClientError) -> AwsError:
    answer = error.response.get("Error", {})
    code = answer.get("Code") or "Unknown"
    message = answer.get("Message") or "no message"
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    allowed, hint = None, None
    if code in DENIED:
        hint = "grant this action (and the others tuner needs) to the caller"
    elif code in BAD_CREDENTIALS:
        hint = "the credentials are wrong or have expired; log in again"
    elif code == "ResourceLimitExceeded":
        allowed = "the instance quota 'for endpoint usage' of the type in this region"
        hint = "ask for a higher quota in Service Quotas, or lower the largest instance count"
    elif code in THROTTLES:
        hint = "AWS throttles the account's calls; wait a minute and try again"
    elif status >= 500 or code in TRANSIENT:
        hint = "AWS had an internal error; try again"
    return AwsError(
        f"{error.operation_name} was refused: {message}",
        code=code,
        operation=error.operation_name,
        transient=code in TRANSIENT or status >= 500,
        allowed=allowed,
        hint=hint,
    )
