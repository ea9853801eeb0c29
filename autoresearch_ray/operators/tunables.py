"""Finds the ALL_CAPS literals of a train.py, says how each may move, and writes new values in place.

Owns source spans and spelling; every other byte of the source stays. Does not decide on new values (parameters.py,
crossover.py).
"""

from __future__ import annotations

import ast
import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from autoresearch_ray.variant import parse

Number = int | float
Value = bool | int | float | str

LARGEST = 10**18
"""No number of a greater magnitude is a tunable."""


class Kind(Enum):
    """How a literal may move."""

    FLAG = "flag"
    """A boolean; it flips."""
    CHOICE = "choice"
    """A literal whose line ends in `# one of: a, b, c`; it becomes another of them."""
    DOUBLING = "doubling"
    """An integer power of two; it doubles or halves. Numbers of layers are counts even so: 8 to 16 is no small step."""
    COUNT = "count"
    """Any other integer, zero included."""
    UNIT = "unit"
    """A float in [0, 1] whose name says that it is a fraction or decay; steps on its log-odds, near 1 on log(1 - x)."""
    SCALE = "scale"
    """Any other float, zero included; steps on its logarithm and keeps its sign."""


@dataclass(frozen=True, slots=True)
class Tunable:
    """One literal: `NAME = literal` at module level, or one number of `NAME = (number, number)`."""

    name: str
    index: int | None
    """Position in its tuple or list; None for a plain literal."""
    start: int
    end: int
    """The literal is `source[start:end]`, in characters."""
    text: str
    value: Value
    kind: Kind
    choices: tuple[Value, ...] = ()
    """`CHOICE` only: all values to choose from, the present one included."""

    @property
    def key(self) -> str:
        """What names the literal in any version of the source: `DEPTH`, `BETAS[1]`."""
        return self.name if self.index is None else f"{self.name}[{self.index}]"


@dataclass(frozen=True, slots=True)
class Literals:
    """What of a program its literals are, and what it is without them."""

    settings: Mapping[str, Value]
    """Values by key."""
    structure: str
    """The same for programs that differ in nothing but their literals' values."""


_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_LISTED = re.compile(r"[ \t]*#[ \t]*one of:[ \t]*(?P<items>.*)", re.IGNORECASE)
_ITEM = re.compile(r"""(["']?)(?P<text>[A-Za-z0-9_.+/-]+)\1(?![A-Za-z0-9_.+/"'-])""")
_PLAIN_STRING = re.compile(r"""(["'])(?!\1)[^"'\\\r\n]*\1""")
_POWER = re.compile(r"2\s*\*\*\s*\d+")
_PRODUCT = re.compile(r"[\d_]+(?P<rest>(?:\s*\*\s*[\d_]+)+)")

# A new random seed is luck, not an idea; the vocabulary belongs to the data; FLOPS are what a GPU is rated at.
_FIXED_WORDS = frozenset({"SEED", "SEEDS", "VOCAB", "FLOPS"})
_DECAY_WORDS = frozenset({"BETA", "BETAS", "MOMENTUM", "EMA"})
_FRACTION_WORDS = frozenset(
    {"DROPOUT", "FRAC", "FRACTION", "PROB", "PROBABILITY", "RATIO", "SHARE", "WARMDOWN", "WARMUP"}
)
_LAYER_WORDS = frozenset({"DEPTH", "LAYER", "LAYERS"})


def find(source: str) -> list[Tunable]:
    """Return the literals that can be stepped safely, in the order of the source.

    Taken are numbers, products, quotients and powers of numbers (`2**19`, `64 * 1024`), booleans, tuples and lists of
    numbers, and listed choices, assigned with or without annotation to an ALL_CAPS name that the module binds once.
    Left alone: names with the word SEED, VOCAB or FLOPS, the sentinel -1, hexadecimal and other masks, strings without
    listed choices, and whatever else is not a plain literal.

    Raises:
        SyntaxError: the source does not parse.
    """
    try:
        return list(_find(parse(source).body, _Spans(source)))
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(f"source cannot be parsed: {error}") from error


def read(source: str) -> Literals:
    """Return a program's literals (Raises SyntaxError: it does not parse)."""
    tunables = find(source)
    rest = write(source, tunables, {tunable.key: "" for tunable in tunables})
    structure = hashlib.blake2b(rest.encode(errors="surrogatepass"), digest_size=8).hexdigest()
    return Literals({tunable.key: tunable.value for tunable in tunables}, structure)


def write(source: str, tunables: Iterable[Tunable], texts: Mapping[str, str]) -> str:
    """Return the source with the literals of the given keys replaced by new texts (see `render`), and nothing else.

    Args:
        source: the text in which the tunables were found.
        tunables: as `find` returned them.
        texts: new texts by key; keys that no tunable has are ignored.
    """
    pieces, position = [], 0
    for tunable in tunables:
        if tunable.key in texts:
            pieces += [source[position : tunable.start], texts[tunable.key]]
            position = tunable.end
    return "".join([*pieces, source[position:]])


def render(tunable: Tunable, value: Value) -> str:
    """Spell a new value the way the literal is spelled: `2**19` to `2**20`, `65_536` to `131_072`, `3e-4` to `2.7e-4`.

    Args:
        tunable: the literal whose place the value takes.
        value: of the same type; a float is spelled with the fewest digits that give it back.
    """
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return f"{tunable.text[0]}{value}{tunable.text[0]}"
    if isinstance(value, float):
        if "e" in tunable.text.lower() or not 1e-4 <= abs(value) < 1e15:
            return np.format_float_scientific(value, trim="-", exp_digits=1) if value else "0.0"
        return np.format_float_positional(value, trim="0")
    return _render_integer(tunable.text, value)


def tidy(value: float, kind: Kind) -> float:
    """Round to three significant digits; for a `UNIT` above a half, to three of its distance from 1."""
    if kind is Kind.UNIT and 0.5 < value < 1:
        return round(value, 2 - math.floor(math.log10(1 - value)))
    return float(f"{value:.3g}")


def quantum(value: int) -> int:
    """Return the step of a count: the largest power of two that divides it and is at most a quarter of it, at least 1.

    So 384 stays a multiple of 64 and divisible into heads.
    """
    step = value & -value
    while step > 1 and step > value / 4:
        step //= 2
    return max(step, 1)


def words(name: str) -> list[str]:
    """Split a name into its words, without numbers: ADAM_BETA2 to ADAM, BETA."""
    return [word.rstrip("0123456789") for word in name.split("_")]


def is_layers(name: str) -> bool:
    """Return whether a name says that it counts layers."""
    return not _LAYER_WORDS.isdisjoint(words(name))


def _render_integer(text: str, value: int) -> str:
    if _POWER.fullmatch(text) and value > 0 and value & (value - 1) == 0:
        return re.sub(r"\d+$", str(value.bit_length() - 1), text)
    product = _PRODUCT.fullmatch(text)
    if product:
        others = math.prod(map(int, re.findall(r"[\d_]+", product["rest"])))
        if others and value % others == 0:
            return f"{value // others}{product['rest']}"
    return f"{value:_}" if "_" in text else str(value)


def _find(body: Sequence[ast.stmt], spans: _Spans) -> Iterator[Tunable]:
    bindings = Counter(_bound(body))
    for statement in body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.expr() as value):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case _:
                continue
        if _NAME.fullmatch(name) and bindings[name] == 1 and not _FIXED_WORDS.intersection(words(name)):
            comment = spans.rest_of_line(statement)
            yield from (tunable for tunable in _literals(name, value, comment, spans) if tunable is not None)


def _bound(body: Sequence[ast.stmt]) -> Iterator[str]:
    """Yield each name as often as module-level code binds it; the bodies of functions and classes are their own."""
    pending: list[ast.AST] = list(body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            pending.extend(ast.iter_child_nodes(node))


def _literals(name: str, node: ast.expr, comment: str, spans: _Spans) -> list[Tunable | None]:
    if isinstance(node, (ast.Tuple, ast.List)):
        return [_tunable(name, index, element, "", spans) for index, element in enumerate(node.elts)]
    return [_tunable(name, None, node, comment, spans)]


def _tunable(name: str, index: int | None, node: ast.expr, comment: str, spans: _Spans) -> Tunable | None:
    start, end = spans.of(node)
    text = spans.source[start:end]
    value = _value(node, text)
    if value is None or (value == -1 and isinstance(value, int)):
        return None
    choices = _choices(value, comment)
    if choices:
        return Tunable(name, index, start, end, text, value, Kind.CHOICE, choices)
    if isinstance(value, str):
        return None
    return Tunable(name, index, start, end, text, value, _kind(name, value))


def _value(node: ast.expr, text: str) -> Value | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, (bool, str)):
        plain = isinstance(node.value, bool) or _PLAIN_STRING.fullmatch(text)
        return node.value if plain else None
    if re.search(r"0[xXoObB]", text):
        return None
    return _number(node)


def _number(node: ast.expr) -> Number | None:
    """Evaluate a number, its negation, or a product, quotient or power of numbers; None for anything else."""
    value: object = None
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            pass
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as operand)):
            value = None if isinstance(operand, bool) else -operand
        case ast.BinOp(left=left, op=ast.Mult() | ast.Div() | ast.Pow() as operation, right=right):
            first, second = _number(left), _number(right)
            if first is not None and second is not None:
                value = _combine(first, operation, second)
    return value if isinstance(value, (int, float)) and abs(value) <= LARGEST else None


def _combine(first: Number, operation: ast.operator, second: Number) -> object:
    try:
        if isinstance(operation, ast.Mult):
            return first * second
        if isinstance(operation, ast.Div):
            return first / second
        return first**second if abs(first) <= 1e3 and abs(second) <= 64 else None
    except (OverflowError, ZeroDivisionError):
        return None


def _choices(value: Value, comment: str) -> tuple[Value, ...]:
    """Return the listed choices of the value's own type, if it is one of them and there is another."""
    listed = _LISTED.match(comment)
    if listed is None or isinstance(value, bool):
        return ()
    choices: list[Value] = []
    for item in listed["items"].split(","):
        found = _ITEM.match(item.strip())
        choice = _parse_choice(found["text"], value) if found else None
        if choice is not None and choice not in choices:
            choices.append(choice)
    return tuple(choices) if value in choices and len(choices) > 1 else ()


def _parse_choice(text: str, like: Value) -> Value | None:
    if isinstance(like, str):
        return text
    try:
        number = type(like)(text)
    except ValueError:
        return None
    return number if abs(number) <= LARGEST else None


def _kind(name: str, value: Number) -> Kind:
    if isinstance(value, bool):
        return Kind.FLAG
    if isinstance(value, int):
        magnitude = abs(value)
        power_of_two = magnitude > 0 and magnitude & (magnitude - 1) == 0
        return Kind.DOUBLING if power_of_two and not is_layers(name) else Kind.COUNT
    unit = 0 <= value <= 1 and (_DECAY_WORDS | _FRACTION_WORDS).intersection(words(name))
    return Kind.UNIT if unit else Kind.SCALE


class _Spans:
    """Turns the positions of AST nodes (lines, UTF-8 bytes) into character offsets."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._starts = [0, *(match.end() for match in re.finditer(r"\r\n|\r|\n", source))]

    def of(self, node: ast.expr) -> tuple[int, int]:
        """Return the character offsets at which a node begins and ends."""
        return self._offset(node.lineno, node.col_offset), self._end(node)

    def rest_of_line(self, statement: ast.stmt) -> str:
        """Return what follows a statement on its last line."""
        return re.split(r"[\r\n]", self.source[self._end(statement) :], maxsplit=1)[0]

    def _end(self, node: ast.expr | ast.stmt) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._offset(node.end_lineno, node.end_col_offset)

    def _offset(self, line: int, column: int) -> int:
        start = self._starts[line - 1]
        # Every character takes at least one byte, so `column` characters are enough.
        return start + len(self.source[start : start + column].encode()[:column].decode())
