"""One explicit, versioned PyArrow schema a table, and the pure functions between the nouns and their rows.

Column names are a public contract: added to, never renamed. Does not own files (store.py) or meaning (evolution/).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from autoresearch_ray import __version__
from autoresearch_ray import variant as nouns
from autoresearch_ray.errors import RunError
from autoresearch_ray.variant import Birth, Experiment, Operator, Result, Status, Usage, Variant

SCHEMA_VERSION = 1
"""Raised when an older reader could misread what is written now, which a column that is only added does not cause:
what a row lacks reads as null. A reader refuses what is newer than itself."""

VERSION_KEY = b"autoresearch_ray.schema_version"
TABLE_KEY = b"autoresearch_ray.table"

TableName = Literal["variants", "experiments", "champions", "events"]
TABLES: tuple[TableName, ...] = ("variants", "experiments", "champions", "events")

Row = dict[str, Any]
"""One row by column name, with plain Python values; timestamps are aware datetimes in UTC."""

BULKY: dict[TableName, frozenset[str]] = {
    "variants": frozenset({"source"}),
    "experiments": frozenset({"curve", "log_tail"}),
    "champions": frozenset(),
    "events": frozenset(),
}
"""Columns of kilobytes a row, left out wherever many rows are read at once."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What every row of a run says about where it came from."""

    run: str
    hardware_class: str = ""
    """What must agree before two scores are compared; column `class`."""
    data_hash: str = ""
    engine_version: str = __version__


TEXT, INT, FLOAT, BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()
TIME = pa.timestamp("us", tz="UTC")
IDS = pa.list_(TEXT)
POINTS = pa.list_(pa.struct([pa.field("progress", FLOAT), pa.field("loss", FLOAT)]))

_ALWAYS: dict[TableName, dict[str, pa.DataType]] = {
    "variants": {
        "sequence": INT,  # monotone over all tables of the run
        "variant_id": TEXT,
        "number": INT,  # of the birth; the seed is 0
        "island": INT,
        "generation": INT,
        "operator": TEXT,
        "parents": IDS,
        "seed": INT,  # of the birth's tournament and operator
        "hypothesis": TEXT,
        "status": TEXT,
        "reason": TEXT,
        "llm_tokens_in": INT,
        "llm_tokens_out": INT,
        "llm_usd": FLOAT,
        "created_at": TIME,
    },
    "experiments": {
        "sequence": INT,
        "experiment_id": TEXT,
        "variant_id": TEXT,
        "seed": INT,  # of the training: initialisation and data order
        "hardware": TEXT,
        "node": TEXT,
        "verified": BOOL,
        "curve": POINTS,
        "train_seconds": FLOAT,  # exclusive-equivalent
        "startup_seconds": FLOAT,
        "wall_seconds": FLOAT,
        "scoring_seconds": FLOAT,
        "tokens": INT,
        "steps": INT,
        "status": TEXT,
        "reason": TEXT,
        "log_tail": TEXT,
    },
    "champions": {
        "sequence": INT,
        "variant_id": TEXT,
        "confirmed_at": TIME,
        "posterior_mean": FLOAT,
        "posterior_sd": FLOAT,
        "p_better": FLOAT,
    },
    "events": {"sequence": INT, "kind": TEXT, "recorded_at": TIME, "details": TEXT},  # details: a JSON object
}
"""Columns that are never null."""

_SOMETIMES: dict[TableName, dict[str, pa.DataType]] = {
    "variants": {
        "model": TEXT,  # null: no language model took part
        "prompt_hash": TEXT,
        "program_hash": TEXT,
        "source": TEXT,  # null: the operator failed
        "source_hash": TEXT,
        "ast_hash": TEXT,  # null: the source does not parse
        "step_size": FLOAT,
        "carried_from": TEXT,  # RUN/VARIANT_ID; null: born in this run
    },
    "experiments": {
        "purpose": TEXT,  # birth, replicate, challenge, confirmation, carried; null in rows of older engines
        "gpu": TEXT,
        "val_bpb": FLOAT,  # null unless completed
        "holdout_bpb": FLOAT,
        "parameters": INT,
        "peak_memory_bytes": INT,
        "claimed_val_bpb": FLOAT,
        "claim_flag": TEXT,  # null: no claim disagrees with what was measured
        "sandbox": IDS,  # the promises that held; null in rows from before there were walls
        "started_at": TIME,
        "ended_at": TIME,
        "carried_from": TEXT,  # RUN/EXPERIMENT_ID; null: trained in this run
    },
    "champions": {
        "replaced": TEXT,  # the champion before it
        "trainings": INT,  # under fresh seeds, behind posterior_mean and on each side of the gain; null in older rows
        "against": TEXT,  # whom it beat: the champion before it, or the seed
        "gain": FLOAT,
        "gain_sd": FLOAT,
    },
    "events": {"variant_id": TEXT, "island": INT},
}
"""Columns that are null where there is nothing to say."""

_IMPORTED: dict[TableName, frozenset[str]] = {
    "variants": frozenset({"seed", "llm_tokens_in", "llm_tokens_out", "llm_usd"}),
    "experiments": frozenset(
        {"seed", "train_seconds", "startup_seconds", "wall_seconds", "scoring_seconds", "tokens", "steps"}
    ),
    "champions": frozenset(),
    "events": frozenset(),
}
"""Columns that are null in runs of another program (autoresearch.py), never in ours."""

_ORIGIN = {"run": TEXT, "engine_version": TEXT, "class": TEXT, "data_hash": TEXT}


def _schema(table: TableName) -> pa.Schema:
    imported = _IMPORTED[table]
    fields = [pa.field(name, kind, nullable=name in imported) for name, kind in _ALWAYS[table].items()]
    fields += [pa.field(name, kind) for name, kind in _SOMETIMES[table].items()]
    fields += [pa.field(name, kind, nullable=False) for name, kind in _ORIGIN.items()]
    return pa.schema(fields, metadata={VERSION_KEY: str(SCHEMA_VERSION), TABLE_KEY: table})


SCHEMAS: dict[TableName, pa.Schema] = {table: _schema(table) for table in TABLES}
"""The schema of each table; its metadata names the table and the version."""


def check_version(found: int, where: Path | str) -> None:
    """Refuse what a newer engine wrote.

    Raises:
        RunError: `found` is greater than SCHEMA_VERSION.
    """
    if found > SCHEMA_VERSION:
        raise RunError(
            f"{where} was written by a newer autoresearch-ray (schema version {found}; this one reads up to "
            f"{SCHEMA_VERSION}): upgrade autoresearch-ray to open it."
        )


# ----------------------------------------------------------------------------------------------------- nouns to rows


def variant_row(
    origin: Origin,
    variant: Variant,
    status: Status,
    reason: str = "",
    *,
    ast_hash: str | None = None,
) -> Row:
    """Return the one row that a birth ends as.

    Args:
        origin: what all rows of the run say.
        variant: what was born; an empty source (the operator failed) is stored as null.
        status: how the birth ended.
        reason: one line, empty when completed.
        ast_hash: of the source, if the caller has computed it already (it takes milliseconds); null in the row when
            the source does not parse.
    """
    if variant.source and ast_hash is None:
        try:
            ast_hash = nouns.ast_hash(variant.source)
        except SyntaxError:
            ast_hash = None
    source = clean(variant.source)
    return {
        **proposal_row(variant),
        "source_hash": nouns.source_hash(source) if source else None,
        "ast_hash": ast_hash,
        "status": status.value,
        "reason": reason,
        **_origin_columns(origin),
    }


def proposal_row(variant: Variant) -> Row:
    """Return what is known of a variant before it was trained: the columns of `variants` that `variant_of` needs."""
    return {
        **birth_row(variant.birth),
        "generation": variant.generation,
        "parents": list(variant.parents),
        "model": variant.model,
        "prompt_hash": variant.prompt_hash,
        "program_hash": variant.program_hash,
        "hypothesis": variant.hypothesis,
        "source": variant.source or None,
        "step_size": variant.step_size,
        "carried_from": variant.carried_from,
        **_usage_columns(variant.usage),
        "created_at": variant.created_at,
    }


def _usage_columns(usage: Usage) -> Row:
    """Return what a birth cost, null where nothing is known of it."""
    known = usage.priced or usage.tokens_in or usage.tokens_out
    return {
        "llm_tokens_in": usage.tokens_in if known else None,
        "llm_tokens_out": usage.tokens_out if known else None,
        "llm_usd": usage.usd if usage.priced or usage.usd else None,
    }


def birth_row(birth: Birth) -> Row:
    """Return the columns of `variants` that a birth fixes before its operator has answered."""
    return {
        "variant_id": birth.variant_id,
        "number": birth.number,
        "island": birth.island,
        "operator": birth.operator.value,
        "seed": birth.seed,
    }


def experiment_row(origin: Origin, experiment: Experiment, result: Result) -> Row:
    """Return the row of one experiment; a score that is not finite is stored as null."""
    return {
        "experiment_id": experiment.experiment_id,
        "variant_id": experiment.variant_id,
        "seed": experiment.seed,
        "purpose": experiment.purpose.value,
        "hardware": result.hardware,
        "node": result.node,
        "gpu": result.gpu,
        "verified": result.verified,
        "val_bpb": _finite(result.val_bpb),
        "holdout_bpb": _finite(result.holdout_bpb),
        "curve": [{"progress": progress, "loss": loss} for progress, loss in result.curve],
        "train_seconds": result.train_seconds,
        "startup_seconds": result.startup_seconds,
        "wall_seconds": result.wall_seconds,
        "scoring_seconds": result.scoring_seconds,
        "tokens": result.tokens,
        "steps": result.steps,
        "parameters": result.parameters,
        "peak_memory_bytes": result.peak_memory_bytes,
        "claimed_val_bpb": _finite(result.claimed_val_bpb),
        "claim_flag": result.claim_flag or None,
        "status": result.status.value,
        "reason": result.reason,
        "log_tail": result.log_tail,
        "sandbox": None if result.sandbox is None else list(result.sandbox),
        "started_at": result.started_at,
        "ended_at": result.ended_at,
        "carried_from": experiment.carried_from,
        **_origin_columns(origin),
    }


def champion_row(
    origin: Origin,
    variant_id: str,
    confirmed_at: datetime,
    *,
    posterior_mean: float,
    posterior_sd: float,
    p_better: float,
    replaced: str | None,
    trainings: int | None = None,
    against: str | None = None,
    gain: float | None = None,
    gain_sd: float | None = None,
) -> Row:
    """Return the row of a confirmed champion.

    Args:
        origin: what all rows of the run say.
        variant_id: the champion.
        confirmed_at: when.
        posterior_mean: of its score, over its fresh trainings.
        posterior_sd: of that.
        p_better: probability that it is better than whom it beat.
        replaced: the champion before it, None for the first.
        trainings: its fresh trainings, and as many of whom it beat.
        against: whom it beat.
        gain: by how much, positive whatever the metric's direction.
        gain_sd: standard deviation of that.
    """
    return {
        "variant_id": variant_id,
        "confirmed_at": confirmed_at,
        "posterior_mean": posterior_mean,
        "posterior_sd": posterior_sd,
        "p_better": p_better,
        "replaced": replaced,
        "trainings": trainings,
        "against": against,
        "gain": gain,
        "gain_sd": gain_sd,
        **_origin_columns(origin),
    }


def event_row(
    origin: Origin,
    kind: str,
    recorded_at: datetime,
    *,
    variant_id: str | None = None,
    island: int | None = None,
    **details: Any,
) -> Row:
    """Return the row of an event (a migration, a resize, a verdict ...); `details` must be plain JSON values."""
    return {
        "kind": kind,
        "recorded_at": recorded_at,
        "variant_id": variant_id,
        "island": island,
        "details": json.dumps(details, sort_keys=True),
        **_origin_columns(origin),
    }


# ----------------------------------------------------------------------------------------------------- rows to nouns


def birth_of(row: Mapping[str, Any]) -> Birth:
    """Return the birth in a row of `variants`, or in what `birth_row` made."""
    return Birth(row["number"], row["variant_id"], row["island"], Operator(row["operator"]), row["seed"])


def variant_of(row: Mapping[str, Any]) -> Variant:
    """Return the variant in a row of `variants` (with its column `source`), or in what `proposal_row` made."""
    return Variant(
        birth=birth_of(row),
        parents=tuple(row["parents"]),
        generation=row["generation"],
        source=row["source"] or "",
        hypothesis=row["hypothesis"],
        created_at=row["created_at"],
        model=row["model"],
        prompt_hash=row["prompt_hash"],
        program_hash=row["program_hash"],
        usage=Usage(
            row["llm_tokens_in"] or 0, row["llm_tokens_out"] or 0, row["llm_usd"] or 0.0, row["llm_usd"] is not None
        ),
        step_size=row["step_size"],
        carried_from=row.get("carried_from"),
    )


def result_of(row: Mapping[str, Any]) -> Result:
    """Return the result in a row of `experiments`; bulky columns that were not read are empty."""
    return Result(
        status=Status(row["status"]),
        reason=row["reason"],
        val_bpb=row["val_bpb"],
        holdout_bpb=row["holdout_bpb"],
        verified=row["verified"],
        curve=tuple((point["progress"], point["loss"]) for point in row.get("curve") or ()),
        train_seconds=row["train_seconds"],
        startup_seconds=row["startup_seconds"],
        wall_seconds=row["wall_seconds"],
        scoring_seconds=row["scoring_seconds"],
        tokens=row["tokens"],
        steps=row["steps"],
        parameters=row["parameters"],
        peak_memory_bytes=row["peak_memory_bytes"],
        claimed_val_bpb=row.get("claimed_val_bpb"),
        claim_flag=row.get("claim_flag") or "",
        log_tail=row.get("log_tail") or "",
        sandbox=None if row.get("sandbox") is None else tuple(row["sandbox"]),
        hardware=row["hardware"],
        node=row["node"],
        gpu=row["gpu"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
    )


def event_details(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the details of a row of `events`."""
    details: dict[str, Any] = json.loads(row["details"])
    return details


def _origin_columns(origin: Origin) -> Row:
    return {
        "run": origin.run,
        "engine_version": origin.engine_version,
        "class": origin.hardware_class,
        "data_hash": origin.data_hash,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def clean(text: str) -> str:
    """Replace lone surrogates, which neither UTF-8 nor Parquet can hold, by question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
