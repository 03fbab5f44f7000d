"""CloudWatch metric math: arithmetic on series, and the functions that policies use."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence

from tuner.emulator.errors import AwsError

Series = Mapping[float, float]
"""Value by the start of its period."""
Value = dict[float, float] | float

LONGEST_EXPRESSION = 2048

_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_EACH: dict[str, Callable[[float], float]] = {"ABS": abs, "CEIL": math.ceil, "FLOOR": math.floor}
_ACROSS: dict[str, Callable[[Sequence[float]], float]] = {
    "SUM": sum,
    "AVG": lambda values: sum(values) / len(values),
    "MIN": min,
    "MAX": max,
}
FUNCTIONS = (*_EACH, *_ACROSS, "FILL", "PERIOD", "METRICS")


def evaluate(
    query_id: str, expression: str, series: Mapping[str, Series], periods: Mapping[str, float]
) -> dict[float, float]:
    """The series of an expression over other queries' series, with their periods.

    Raises
    ------
    AwsError
        If it cannot be understood, or is no series.
    """
    evaluator = _Evaluator(query_id, series, periods)
    try:
        # Its power sign is Python's exclusive or, of a lower precedence than its product.
        tree = ast.parse(expression.strip().replace("^", "**"), mode="eval")
        value = evaluator.value(tree.body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise evaluator.error("it cannot be parsed") from None
    if not isinstance(value, dict):
        raise evaluator.error("its result is a number and not a time series")
    return value


class _Evaluator:
    """One expression."""

    def __init__(
        self, query_id: str, series: Mapping[str, Series], periods: Mapping[str, float]
    ) -> None:
        self._id = query_id
        self._series = series
        self._periods = periods

    def error(self, why: str) -> AwsError:
        return AwsError("ValidationError", f"Error in expression '{self._id}': {why}.")

    def value(self, node: ast.expr) -> Value:
        """A series, or a number."""
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return float(node.value)
        if isinstance(node, ast.Name):
            if node.id not in self._series:
                raise self.error(f"there is no query with the id {node.id}")
            return dict(self._series[node.id])
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return _combined(operator.mul, -1.0, self.value(node.operand))
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            apply = _OPERATORS[type(node.op)]
            return _combined(apply, self.value(node.left), self.value(node.right))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self._call(node.func.id, node.args)
        raise self.error("the emulator knows +, -, *, /, ^ and " + ", ".join(FUNCTIONS))

    def _call(self, name: str, arguments: list[ast.expr]) -> Value:
        if name in _EACH and len(arguments) == 1:
            return _combined(lambda value, _: _EACH[name](value), self.value(arguments[0]), 0.0)
        if name in _ACROSS and len(arguments) == 1:
            return self._across(name, arguments[0])
        if name == "PERIOD" and len(arguments) == 1 and isinstance(arguments[0], ast.Name):
            return self._periods.get(arguments[0].id, 60.0)
        if name == "FILL" and len(arguments) == 2:
            return self._fill(*arguments)
        raise self.error(f"{name} is not known, or is given the wrong number of arguments")

    def _across(self, name: str, node: ast.expr) -> Value:
        """Over several series, moment by moment; over one series, a number."""
        apply = _ACROSS[name]
        if isinstance(node, ast.List):
            found = [self._as_series(n) for n in node.elts]
        elif isinstance(node, ast.Call) and ast.unparse(node) == "METRICS()":
            found = [dict(s) for s in self._series.values()]
        else:
            values = list(self._as_series(node).values())
            return apply(values) if values else math.nan
        moments = sorted({t for s in found for t in s})
        return {t: apply([s[t] for s in found if t in s]) for t in moments}

    def _as_series(self, node: ast.expr) -> dict[float, float]:
        value = self.value(node)
        if not isinstance(value, dict):
            raise self.error("a number stands where a time series must")
        return value

    def _fill(self, node: ast.expr, with_what: ast.expr) -> Value:
        series = self._as_series(node)
        moments = sorted({t for s in self._series.values() for t in s} | series.keys())
        repeat = isinstance(with_what, ast.Name) and with_what.id == "REPEAT"
        filling = math.nan if repeat else self.value(with_what)
        if isinstance(filling, dict):
            raise self.error("FILL takes a number or REPEAT")
        filled: dict[float, float] = {}
        for moment in moments:
            if repeat:
                filling = series.get(moment, filling)
            filled[moment] = series.get(moment, filling)
        return {t: v for t, v in filled.items() if not math.isnan(v)}


def _combined(apply: Callable[[float, float], float], one: Value, other: Value) -> Value:
    """Moment by moment where both have one; what cannot be computed has no value there."""
    if not isinstance(one, dict) and not isinstance(other, dict):
        return _number(apply, one, other)
    moments = [set(v) for v in (one, other) if isinstance(v, dict)]
    result: dict[float, float] = {}
    for t in sorted(set.intersection(*moments)):
        left = one[t] if isinstance(one, dict) else one
        right = other[t] if isinstance(other, dict) else other
        value = _number(apply, left, right)
        if not math.isnan(value):
            result[t] = value
    return result


def _number(apply: Callable[[float, float], float], left: float, right: float) -> float:
    try:
        value = apply(left, right)
    except (ArithmeticError, ValueError):
        return math.nan
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan
