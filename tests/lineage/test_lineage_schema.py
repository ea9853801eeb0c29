import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pytest
import synthetic

from autoresearch_ray.errors import RunError
from autoresearch_ray.lineage import codec, schema
from autoresearch_ray.variant import Operator, Result, Status, Usage

PUBLIC = {
    "variants": "variant_id run island generation operator parents model prompt_hash program_hash hypothesis source "
    "source_hash ast_hash status reason llm_tokens_in llm_tokens_out llm_usd created_at sequence",
    "experiments": "experiment_id variant_id seed hardware node gpu verified val_bpb holdout_bpb curve train_seconds "
    "startup_seconds wall_seconds scoring_seconds tokens steps parameters peak_memory_bytes status reason log_tail "
    "started_at ended_at sequence",
    "champions": "variant_id confirmed_at posterior_mean posterior_sd p_better replaced sequence",
    "events": "kind sequence",
}


@pytest.mark.parametrize("table", schema.TABLES)
def test_public_columns_and_origin_are_there(table: schema.TableName) -> None:
    names = set(schema.SCHEMAS[table].names)
    assert set(PUBLIC[table].split()) <= names
    assert {"run", "engine_version", "class", "data_hash"} <= names
    assert schema.SCHEMAS[table].metadata[schema.VERSION_KEY] == str(schema.SCHEMA_VERSION).encode()
    assert schema.SCHEMAS[table].names[0] == "sequence"  # row groups are chosen by the statistics of the first column


def through_journal(table: schema.TableName, row: schema.Row) -> schema.Row:
    checked = codec.normalise(table, row | {"sequence": 7})
    return codec.decode(table, json.loads(codec.encode(checked)))


def through_arrow(table: schema.TableName, row: schema.Row) -> schema.Row:
    data = pa.Table.from_pylist([through_journal(table, row)], schema=schema.SCHEMAS[table])
    data.validate(full=True)
    return data.to_pylist()[0]


def full_variant():
    seed = synthetic.variant(0)
    other = synthetic.variant(1, (seed,), operator=Operator.MUTATION)
    return synthetic.variant(
        5,
        (seed, other),
        source="LR = 0.1  # größer → schneller\n",
        hypothesis="raise LR",
        created_at=datetime(2025, 11, 24, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=2))),
        model="openai/test",
        prompt_hash="aa",
        program_hash="bb",
        usage=Usage(10, 20, 0.5),
        step_size=0.25,
    )


@pytest.mark.parametrize("way", [through_journal, through_arrow])
def test_a_variant_survives_the_way_there_and_back(way) -> None:
    variant = full_variant()
    row = way("variants", schema.variant_row(synthetic.origin(), variant, Status.COMPLETED))
    assert schema.variant_of(row) == variant
    assert row["created_at"].microsecond == 678901
    assert row["created_at"].utcoffset() == timedelta(0)
    assert row["class"] == synthetic.origin().hardware_class
    assert row["ast_hash"]
    assert len(row["source_hash"]) == 64


@pytest.mark.parametrize("way", [through_journal, through_arrow])
def test_a_result_survives_the_way_there_and_back(way) -> None:
    result = Result(
        status=Status.COMPLETED,
        val_bpb=3.7,
        holdout_bpb=3.8,
        verified=True,
        curve=((0.1, 5.0), (0.9, float("inf"))),
        train_seconds=10.0,
        startup_seconds=0.4,
        wall_seconds=12.0,
        scoring_seconds=1.0,
        tokens=1 << 40,
        steps=3,
        parameters=5,
        peak_memory_bytes=1 << 33,
        claimed_val_bpb=0.1,
        claim_flag="claims val_bpb 0.1, measured 3.7",
        log_tail="---\n",
        hardware="cpu",
        node="here",
        gpu="0",
        started_at=synthetic.START,
        ended_at=synthetic.START,
    )
    experiment = synthetic.experiment(full_variant(), 2)
    row = way("experiments", schema.experiment_row(synthetic.origin(), experiment, result))
    assert schema.result_of(row) == result
    assert (row["experiment_id"], row["variant_id"], row["seed"]) == (
        experiment.experiment_id,
        experiment.variant_id,
        44,
    )


def test_a_failed_operator_leaves_source_and_hashes_null() -> None:
    variant = replace(full_variant(), source="")
    row = schema.variant_row(synthetic.origin(), variant, Status.OPERATOR_FAILED, "no reply")
    assert (row["source"], row["source_hash"], row["ast_hash"]) == (None, None, None)
    assert schema.variant_of(through_arrow("variants", row)) == variant


def test_source_that_does_not_parse_is_kept_without_an_ast_hash() -> None:
    variant = replace(full_variant(), source="def broken(:\n")
    row = schema.variant_row(synthetic.origin(), variant, Status.REJECTED, "does not parse")
    assert row["ast_hash"] is None
    assert schema.variant_of(through_arrow("variants", row)).source == "def broken(:\n"


def test_lone_surrogates_become_question_marks() -> None:
    variant = replace(full_variant(), source="x = '\ud800'\n", hypothesis="\udfff", model="\ud834")
    row = through_arrow("variants", schema.variant_row(synthetic.origin(), variant, Status.COMPLETED))
    assert (row["source"], row["hypothesis"], row["model"]) == ("x = '?'\n", "?", "?")


@pytest.mark.parametrize("score", [float("nan"), float("inf"), None])
def test_a_score_that_is_no_number_is_null(score: float | None) -> None:
    result = Result(Status.CRASHED, "non-finite logits", val_bpb=score)
    row = schema.experiment_row(synthetic.origin(), synthetic.experiment(full_variant()), result)
    assert row["val_bpb"] is None


def test_champions_and_events() -> None:
    champion = synthetic.champion_row(synthetic.origin(), "abc", 3.5, synthetic.START)
    assert through_arrow("champions", champion)["replaced"] is None
    event = schema.event_row(synthetic.origin(), "migration", synthetic.START, island=1, moved=["a", "b"], target=0)
    row = through_arrow("events", event)
    assert schema.event_details(row) == {"moved": ["a", "b"], "target": 0}
    assert (row["kind"], row["island"], row["variant_id"]) == ("migration", 1, None)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"unknown": 1}, "no column"),
        ({"status": None}, "must not be null"),
        ({"hypothesis": 3}, "expected text"),
        ({"island": True}, "expected an integer"),
        ({"island": 1.5}, "island"),
        ({"seed": 2**63}, "64 bits"),
        ({"llm_usd": "3"}, "expected a number"),
        ({"created_at": datetime(2025, 1, 1)}, "time zone"),
        ({"parents": [1]}, "expected text"),
    ],
)
def test_a_row_that_does_not_fit_is_refused(change: schema.Row, what: str) -> None:
    row = schema.variant_row(synthetic.origin(), full_variant(), Status.COMPLETED) | {"sequence": 0} | change
    with pytest.raises(ValueError, match=what):
        codec.normalise("variants", row)


def test_numbers_of_numpy_fit() -> None:
    import numpy as np

    row = schema.variant_row(synthetic.origin(), full_variant(), Status.COMPLETED)
    row |= {"seed": np.int64(3), "llm_usd": np.float32(0.5), "sequence": 0}
    assert json.loads(codec.encode(codec.normalise("variants", row)))["seed"] == 3


def test_a_newer_schema_is_refused_with_a_sentence() -> None:
    schema.check_version(schema.SCHEMA_VERSION, "runs/x")
    with pytest.raises(RunError, match=r"runs/x .*newer autoresearch-ray.*upgrade"):
        schema.check_version(schema.SCHEMA_VERSION + 1, "runs/x")
