"""Values and comments in Terraform's language, laid out as ``terraform fmt`` lays them out."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence

from tuner.errors import InputError

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories that can break a line, hide text or turn its direction."""


def quoted(text: str) -> str:
    """A quoted template that evaluates to exactly ``text``."""
    out = []
    for i, char in enumerate(text):
        if char in _ESCAPES:
            out.append(_ESCAPES[char])
        elif char in "$%" and text[i + 1 : i + 2] == "{":
            out.append(char * 2)
        elif unicodedata.category(char) in _INVISIBLE:
            if unicodedata.category(char) == "Cs":
                raise InputError("text is not valid Unicode", value=text)
            code = ord(char)
            out.append(f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}")
        else:
            out.append(char)
    return f'"{"".join(out)}"'


def one_line(text: str) -> str:
    """Text safe inside a comment: one line, nothing invisible, runs of blanks as one."""
    visible = "".join(" " if unicodedata.category(c) in _INVISIBLE else c for c in text)
    return " ".join(visible.split())


def number(value: float) -> str:
    """A number as Terraform writes it, without an exponent.

    Raises
    ------
    InputError
        For NaN and the infinities, which the language has no word for.
    """
    if not math.isfinite(value):
        raise InputError("Terraform has no such number", value=value, allowed="a finite number")
    if float(value).is_integer():
        return str(int(value))
    text = f"{value!r}"
    return text if "e" not in text else f"{value:.20f}".rstrip("0")


def expression(value: object, indent: int = 0) -> str:
    """Any plain value (None, bool, number, text, list, mapping) as an HCL expression.

    Raises
    ------
    InputError
        For a value of another kind.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, str):
        return quoted(value)
    pad = "  " * (indent + 1)
    end = "  " * indent
    if isinstance(value, Mapping):
        if not value:
            return "{}"
        keyed = {_key(k): v for k, v in value.items()}
        return "{\n" + "".join(attributes(keyed, indent + 1)) + end + "}"
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        if all(v is None or isinstance(v, str | int | float) for v in value):
            return "[" + ", ".join(expression(v) for v in value) + "]"
        items = "".join(f"{pad}{expression(v, indent + 1)},\n" for v in value)
        return "[\n" + items + end + "]"
    raise InputError(
        "this value cannot be written as a Terraform value",
        value=value,
        allowed="text, numbers, true/false, lists and tables of them",
    )


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise InputError("a key of a Terraform map must be text", value=key)
    return key if _IDENTIFIER.match(key) else quoted(key)


def attributes(values: Mapping[str, object], indent: int = 0) -> list[str]:
    """``name = value`` lines; the equals signs of neighbours of one line each are aligned."""
    pad = "  " * indent
    rendered = [(name, expression(value, indent)) for name, value in values.items()]
    lines: list[str] = []
    run: list[tuple[str, str]] = []

    def flush() -> None:
        width = max((len(name) for name, _ in run), default=0)
        lines.extend(f"{pad}{name:<{width}} = {text}\n" for name, text in run)
        run.clear()

    for name, text in rendered:
        if "\n" in text:
            flush()
            lines.append(f"{pad}{name} = {text}\n")
        else:
            run.append((name, text))
    flush()
    return lines
