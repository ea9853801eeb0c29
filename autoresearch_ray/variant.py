"""The nouns of the search: births, variants, experiments and what came of them. Frozen records, no behaviour.

Owns identity (ids, source and AST hashes). Does not own scores' meaning (evolution/noise.py) or storage (lineage/).
"""

from __future__ import annotations

import ast
import hashlib
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum


class Status(str, Enum):
    """How a birth or an experiment ended."""

    COMPLETED = "completed"
    """Trained and scored."""
    CRASHED = "crashed"
    """The variant's process failed: an exception, a non-finite loss, out of memory."""
    TIMED_OUT = "timed_out"
    """Start-up, training or scoring took longer than its allowance."""
    REJECTED = "rejected"
    """Never trained, or trained and refused: does not parse, no change, duplicate, broke a rule of scoring."""
    LOST = "lost"
    """The machine or the trusted side failed; not the variant's fault."""
    OPERATOR_FAILED = "operator_failed"
    """The operator gave no usable reply."""


class Purpose(str, Enum):
    """Why an experiment is run. All of them count, and all of them tell about a variant's score."""

    BIRTH = "birth"
    """The first training of a variant; or the seed's, whose replicates measure the noise before anything is chosen."""
    REPLICATE = "replicate"
    """Once more, because it is worth knowing the variant's score better."""
    CHALLENGE = "challenge"
    """For a title: challenger and incumbent, each under fresh seeds."""
    CONFIRMATION = "confirmation"
    """After the run, on a person's order."""
    CARRIED = "carried"
    """Trained in another run of the same class, and taken over from it; this run spent nothing on it."""


class Operator(str, Enum):
    """What made a variant from its parents."""

    SEED = "seed"
    """No parents: variant 0, the program the run started from."""
    PARAMETERS = "parameters"
    """One parent; steps on its numeric literals, no language model."""
    CROSSOVER = "crossover"
    """Two parents."""
    MUTATION = "mutation"
    """One parent, a language model."""
    REPAIR = "repair"
    """One parent, which crashed early; a language model mends it with the traceback before it."""
    PERSON = "person"
    """Written by a person and put into a running search, as a child of the seed."""
    CARRIED = "carried"
    """Taken over from another run: with its parents and scores where these count here, else as a child of the seed."""


@dataclass(frozen=True, slots=True)
class Birth:
    """The request to make one variant; it ends as exactly one row of the table `variants`."""

    number: int
    """0 for the seed, then 1, 2, ... in the order the driver made them."""
    variant_id: str
    island: int
    operator: Operator
    seed: int
    """Seeds this birth's tournament and operator; nothing else is random about it."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a birth cost in calls of language models, or in an agent's work."""

    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0
    priced: bool = True
    """False: it cost more than is said here, or nobody knows what; rows hold null where nothing at all is known."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One train.py and how it was born. Immutable."""

    birth: Birth
    parents: tuple[str, ...]
    """Variant ids: none for the seed, two for a crossover."""
    generation: int
    """1 + the greatest generation among the parents; the seed is 0."""
    source: str
    hypothesis: str
    """One line: what changed and why it should help."""
    created_at: datetime
    model: str | None = None
    prompt_hash: str | None = None
    program_hash: str | None = None
    usage: Usage = field(default_factory=Usage)
    step_size: float | None = None
    """The self-adapted standard deviation of parameter steps (log scale) that its children inherit; None is unset."""
    carried_from: str | None = None
    """`RUN/VARIANT_ID` of the variant of another run that this one is; None for what was born here."""

    @property
    def variant_id(self) -> str:
        """The id, 12 hexadecimal digits."""
        return self.birth.variant_id


@dataclass(frozen=True, slots=True)
class Experiment:
    """The order to train and score one variant under one random seed."""

    experiment_id: str
    """`<variant_id>-<replicate>`, replicates counted from 0; a repeated `lost` one gets the next number."""
    variant_id: str
    source: str
    seed: int
    holdout: bool = False
    """The holdout rows are scored too; for champions and their challengers, never for selection."""
    purpose: Purpose = Purpose.BIRTH
    carried_from: str | None = None
    """`RUN/EXPERIMENT_ID` of the training in another run that this one is; None for what was trained here."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one experiment came to, as the supervisor measured it. Times are in seconds, memory in bytes.

    The supervisor's own numbers, but those that are called claims; what else was printed stands only in `log_tail`.
    """

    status: Status
    reason: str = ""
    """Empty when completed; else one line that says what happened."""
    val_bpb: float | None = None
    """Validation bits per byte, lower is better; None unless completed."""
    holdout_bpb: float | None = None
    """The same over the holdout rows, where the experiment asked for it; shown for champions, never selected on."""
    verified: bool = False
    """True when the supervisor computed the score from logits; False when the program reported it."""
    curve: tuple[tuple[float, float], ...] = ()
    """(progress in [0, 1], training loss in nats a token) as the variant reported it; at most 100 points."""
    train_seconds: float = 0.0
    """On the experiment's clock: exclusive-equivalent GPU seconds, or CPU seconds divided by threads."""
    startup_seconds: float = 0.0
    wall_seconds: float = 0.0
    scoring_seconds: float = 0.0
    tokens: int = 0
    """Training tokens served."""
    steps: int = 0
    """Training batches served."""
    parameters: int | None = None
    """Parameters of the scored model: a claim, as the variant's process counted them."""
    peak_memory_bytes: int | None = None
    """Measured on the CPU; of a GPU's memory, what the variant claims."""
    claimed_val_bpb: float | None = None
    """What a scored variant printed as its score; nothing is decided by it."""
    claim_flag: str = ""
    """Which of its claims disagree with what was measured; empty when none do."""
    log_tail: str = ""
    """The last 8 kB that the variant printed, made printable."""
    sandbox: tuple[str, ...] | None = None
    """The promises of the sandbox that held, by name; empty without walls, None where it is not known."""
    hardware: str = ""
    """The class of the machine, e.g. `NVIDIA H100 80GB HBM3` or `cpu x86_64`."""
    node: str = ""
    gpu: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


def variant_id(run: str, number: int) -> str:
    """Return the id of birth `number` of run `run`: 12 hexadecimal digits, the same every time.

    Not derived from the source: two births may well have the same source.
    """
    return hashlib.blake2b(f"{run}/{number}".encode(), digest_size=6).hexdigest()


def source_hash(source: str) -> str:
    """Return the SHA-256 of the source text, 64 hexadecimal digits."""
    return hashlib.sha256(source.encode()).hexdigest()


def parse(source: str) -> ast.Module:
    """Parse a source, in any thread.

    CPython before 3.13 keeps one count of depth for the trees of all threads: where two build one at a time, and
    formatting a traceback is enough, either may get a `SystemError: AST constructor recursion depth mismatch`.

    Raises:
        SyntaxError: the source does not parse.
        ValueError, RecursionError, MemoryError: it has null bytes or is nested too deeply.
    """
    for _ in range(_COLLISIONS):
        with suppress(SystemError):
            return ast.parse(source)
    return ast.parse(source)


_COLLISIONS = 20


def ast_hash(source: str) -> str:
    """Return a hash of what the source means to the parser: comments, layout and docstrings do not count.

    Raises:
        SyntaxError: the source does not parse (null bytes and too deep nesting included).
    """
    try:
        tree = parse(source)
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                _drop_docstring(node)
        text = ast.dump(tree)
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(f"source cannot be parsed: {error}") from error
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def _drop_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        node.body = node.body[1:] or [ast.Pass()]


def count_nodes(source: str) -> int:
    """Return the number of AST nodes: the measure of simplicity that settles ties."""
    return sum(1 for _ in ast.walk(parse(source)))
