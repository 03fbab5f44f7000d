"""CloudWatch's Query protocol: form in, XML out (older clients)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from tuner.emulator.errors import AwsError, escape
from tuner.emulator.params import Params

XMLNS = "http://monitoring.amazonaws.com/doc/2010-08-01/"
_INTEGERS = {"Period", "EvaluationPeriods", "DatapointsToAlarm", "MaxDatapoints", "MaxRecords"}
_NUMBERS = {"Threshold"}
_FLAGS = {"ReturnData", "ActionsEnabled"}
_TIMES = {"StartTime", "EndTime"}
SHOWN_TIMES = frozenset(
    {
        "Timestamp",
        "Timestamps",
        "StateUpdatedTimestamp",
        "AlarmConfigurationUpdatedTimestamp",
    }
)

Operation = Callable[[Params], "dict[str, Any] | None"]


class QueryProtocol:
    """The operations of one service for clients that speak the Query protocol."""

    def __init__(self, operations: Mapping[str, Operation]) -> None:
        self._operations = operations

    def __call__(self, form: dict[str, str], request_id: str) -> bytes:
        """Run the operation a form asks for and write its answer.

        Raises
        ------
        AwsError
            If the form does not make a valid request.
        """
        name = form.pop("Action", "")
        operation = self._operations.get(name)
        if operation is None:
            raise AwsError("InvalidAction", f"The action {name} is not valid for this endpoint.")
        form.pop("Version", None)
        result = operation(Params(_nested(form)))
        parts = [f'<{name}Response xmlns="{XMLNS}">']
        if result is not None:
            parts += [f"<{name}Result>", *_elements(result), f"</{name}Result>"]
        parts.append(
            f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
            f"</{name}Response>"
        )
        return "".join(parts).encode("utf-8", "replace")


def _nested(form: Mapping[str, str]) -> dict[str, Any]:
    """``A.member.1.B=x`` to ``{"A": [{"B": x}]}``."""
    tree: dict[str, Any] = {}
    for key, value in form.items():
        steps = key.split(".")
        if len(steps) > 12:
            raise AwsError("MalformedInput", f"The parameter {key[:80]} is nested too deeply.")
        node = tree
        for step in steps[:-1]:
            below = node.setdefault(step, {})
            if not isinstance(below, dict):
                raise AwsError("MalformedInput", f"The parameter {key[:80]} is not valid.")
            node = below
        node[steps[-1]] = value
    plain = _plain(tree, "")
    assert isinstance(plain, dict)
    return plain


def _plain(node: Any, key: str) -> Any:
    if not isinstance(node, dict):
        return _typed(key, node)
    if set(node) == {"member"} and isinstance(node["member"], dict):
        members = node["member"]
        if not all(k.isdecimal() and len(k) < 6 for k in members):
            raise AwsError("MalformedInput", f"The list {key} is not numbered.")
        return [_plain(members[k], key) for k in sorted(members, key=int)]
    return {k: _plain(v, k) for k, v in node.items()}


def _typed(key: str, text: str) -> Any:
    try:
        if key in _INTEGERS:
            return int(text)
        if key in _NUMBERS:
            return float(text)
        if key in _TIMES:
            moment = datetime.fromisoformat(text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise AwsError("MalformedInput", f"The value of {key} is not valid.") from None
    if key in _FLAGS:
        return text.lower() == "true"
    return text


def _elements(value: Mapping[str, Any]) -> list[str]:
    parts = []
    for key, inner in value.items():
        name = escape(key)
        parts.append(f"<{name}>{_content(key, inner)}</{name}>")
    return parts


def _content(key: str, value: Any) -> str:
    if isinstance(value, list):
        return "".join(f"<member>{_content(key, v)}</member>" for v in value)
    if isinstance(value, Mapping):
        if key == "ExtendedStatistics":
            entries = (f"<entry><key>{escape(k)}</key><value>{v!r}</value></entry>"
                       for k, v in value.items())  # fmt: skip
            return "".join(entries)
        return "".join(_elements(value))
    if key in SHOWN_TIMES:
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, bool):
        return "true" if value else "false"
    return escape(value if isinstance(value, str) else repr(value))
