import json
from pathlib import Path

import hostile
import pytest
import synthetic

from autoresearch_ray.explore import variants
from autoresearch_ray.lineage import schema
from autoresearch_ray.lineage.query import Lineage
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.operators import transcripts
from autoresearch_ray.operators.request import Message
from autoresearch_ray.variant import Result, Status, Usage


def of_kind(lineage: Lineage, column: str, value: str) -> int:
    return lineage.column(column).index(value)


def test_everything_about_a_variant_is_json(lineage: Lineage) -> None:
    position = of_kind(lineage, "operator", "crossover")
    shown = variants.variant(lineage, position, source=True)
    assert json.loads(json.dumps(shown)) == shown
    assert [parent["variant_id"] for parent in shown["parents"]] == lineage.row(position)["parents"]
    assert shown["parents"][0]["gain"] == pytest.approx(shown["parents"][0]["val_bpb"] - shown["val_bpb"])
    assert set(lineage.row(position)) <= set(shown)
    assert shown["source"].startswith('"""Train')
    assert len(shown["experiments"]) == shown["replicates"]
    assert "source" not in variants.variant(lineage, position)


def test_a_champion_on_the_screen(lineage: Lineage, printed) -> None:
    position = lineage.find("champion")
    lines = printed(variants.draw_variant(variants.variant(lineage, position, source=True)))
    shown = "\n".join(lines)
    assert all(len(line) <= 80 for line in lines)
    assert lines[0] == f"{lineage.ids[position]}  completed  ★ champion"
    assert lines[1] == lineage.hypotheses[position]
    for score in lineage.experiments(position):
        assert f"{score['val_bpb']:.6f}" in shown
    assert "against the seed  -0." in shown
    assert "430 k" in shown
    assert "import torch" in shown


def test_every_gain_has_its_error(lineage: Lineage, printed) -> None:
    place = lineage.best(1)[0]
    shown = variants.variant(lineage, place)
    drawn = "\n".join(printed(variants.draw_variant(shown)))
    assert f"±{shown['gain_against_seed_error']:.4f}" in drawn
    assert f"±{shown['parents'][0]['gain_error']:.4f}" in drawn
    best = variants.best(lineage)
    listed = "\n".join(printed(variants.draw_best(best)))
    assert f"±{best['best'][0]['gain_against_seed_error']:.4f}" in listed


def test_a_failure_shows_its_reason_and_the_end_of_its_log(lineage: Lineage, printed) -> None:
    position = of_kind(lineage, "status", "crashed")
    shown = "\n".join(printed(variants.draw_variant(variants.variant(lineage, position)), width=120))
    assert "RuntimeError: mat1 and mat2" in shown
    assert "none (crashed)" in shown
    assert "Traceback (most recent call last):" in shown


def test_a_long_log_is_cut_unless_all_of_it_is_wanted(lineage: Lineage, printed) -> None:
    shown = variants.variant(lineage, 0)
    shown["experiments"][-1]["log_tail"] = "\n".join(f"line {number}" for number in range(50))
    short = printed(variants.draw_variant(shown))
    assert f"... {50 - variants.LOG_LINES} lines before" in short
    assert "line 37" not in short
    assert "line 49" in short
    assert "line 0" in printed(variants.draw_variant(shown, whole_log=True))


def test_hostile_text_is_shown_and_not_obeyed(tmp_path: Path, printed) -> None:
    origin = schema.Origin(hostile.MARKUP, hostile.ESCAPES)
    seed = synthetic.variant(
        0, run="run", source=f"x = '''{hostile.TEXT}'''\n", hypothesis=hostile.TEXT, model=hostile.TEXT
    )
    child = synthetic.variant(1, (seed,), run="run", source=f"y = '''{hostile.TEXT}'''\n", hypothesis=hostile.TEXT)
    with LineageStore.create(tmp_path / "run", "run") as store:
        for born in (seed, child):
            result = Result(
                Status.COMPLETED, val_bpb=1.0, log_tail=hostile.TEXT, node=hostile.TEXT, hardware=hostile.TEXT, gpu=None
            )
            store.append("experiments", schema.experiment_row(origin, synthetic.experiment(born), result))
            store.append("variants", schema.variant_row(origin, born, Status.COMPLETED, hostile.TEXT))
    lineage = Lineage.open(tmp_path / "run")
    for shown in (
        variants.draw_variant(variants.variant(lineage, 1, source=True)),
        variants.draw_difference(variants.difference(lineage, 0, 1)),
        variants.draw_path(variants.path(lineage, 1)),
        variants.draw_best(variants.best(lineage)),
    ):
        lines = "\n".join(printed(shown, width=400))
        assert not set(hostile.FORBIDDEN) & set(lines)
        assert hostile.MARKUP in lines


def test_a_difference_is_unified_and_names_both(lineage: Lineage, printed) -> None:
    lines = printed(variants.draw_difference(variants.difference(lineage, 0, lineage.find("champion"))))
    assert " -> " in lines[0]
    assert lines[1] == f"--- {lineage.ids[0][:7]}/train.py"
    assert "-EMBEDDING_LR = 8" in lines
    same = variants.difference(lineage, 0, 0)
    assert same["diff"] == []
    assert "the sources are the same" in printed(variants.draw_difference(same))


def test_the_path_goes_from_the_seed_and_its_gains_add_up(lineage: Lineage, printed) -> None:
    shown = variants.path(lineage, lineage.find("champion"))
    steps = shown["steps"]
    assert steps[0]["operator"] == "seed"
    assert steps[0]["gain"] is None
    assert sum(step["gain"] for step in steps[1:]) == pytest.approx(steps[-1]["gain_against_seed"])
    assert [step["confirmed"] for step in steps] == [False] * (len(steps) - 1) + [True]
    lines = printed(variants.draw_path(shown))
    assert all(len(line) <= 80 for line in lines)
    firsts = [line[2:9] for line in lines[1:-1] if line[2:4].strip()]
    assert firsts == [step["variant_id"][:7] for step in steps]
    json.dumps(shown)


def test_the_best_say_whether_they_are_confirmed(lineage: Lineage, printed) -> None:
    shown = variants.best(lineage, 5)
    assert [entry["val_bpb"] for entry in shown["best"]] == sorted(entry["val_bpb"] for entry in shown["best"])
    lines = printed(variants.draw_best(shown))
    assert all(len(line) <= 80 for line in lines)
    assert len(lines) >= 7
    assert sum("★" in line for line in lines[1:6]) == 1
    assert "others unconfirmed" in " ".join(lines)
    assert all("±" in line for line in lines[1:6])


def test_without_replicates_only_the_count_is_shown(tmp_path: Path, printed) -> None:
    with LineageStore.create(tmp_path / "run", "run") as store:
        born = synthetic.variant(0, run="run")
        result = Result(Status.COMPLETED, val_bpb=1.25)
        store.append("experiments", schema.experiment_row(synthetic.origin(), synthetic.experiment(born), result))
        store.append("variants", schema.variant_row(synthetic.origin(), born, Status.COMPLETED))
    lines = printed(variants.draw_best(variants.best(Lineage.open(tmp_path / "run"))))
    assert "1.2500 (1)" in lines[1]
    assert "noise is not known" in lines[2]


def test_an_empty_run_says_so(tmp_path: Path, printed) -> None:
    LineageStore.create(tmp_path / "run", "run").close()
    assert printed(variants.draw_best(variants.best(Lineage.open(tmp_path / "run")))) == [
        "run: nothing has been scored yet"
    ]


def test_claims_that_are_not_borne_out_and_holdout_scores_are_shown(lineage: Lineage, printed) -> None:
    shown = variants.variant(lineage, 0)
    shown["experiments"][0] |= {"claim_flag": "claims val_bpb 0.1, measured 3.812340", "holdout_bpb": 3.7}
    shown["experiments"][1].pop("claim_flag")  # a part that was written before there were flags
    lines = printed(variants.draw_variant(shown), width=120)
    seed = shown["experiments"][0]["seed"]
    assert f"seed {seed}: claims val_bpb 0.1, measured 3.812340" in lines
    assert f"seed {seed}: 3.700000 on the holdout rows, never selected on" in lines
    assert sum(line.startswith("seed ") and ":" in line for line in lines) == 2


def test_the_very_prompt_and_reply_are_shown_when_asked_for(tmp_path: Path, printed) -> None:
    folder = synthetic.make(tmp_path / "run", 5)
    lineage = Lineage.open(folder)
    asked = Message("user", f"make it better {hostile.TEXT}")
    exchange = transcripts.Exchange(
        lineage.ids[2],
        2,
        "mutation",
        synthetic.START,
        1.5,
        "a/model",
        (asked,),
        "beef",
        "SEARCH/REPLACE",
        "",
        (),
        Usage(),
    )
    transcripts.Transcripts(folder).keep(exchange)
    shown = variants.variant(lineage, 2, prompt=True)
    assert [turn["role"] for turn in shown["conversation"]] == ["mutation: user", "a/model answers"]
    assert shown["conversation"][1]["content"] == "SEARCH/REPLACE"
    words = "\n".join(printed(variants.draw_variant(shown)))
    assert "make it better" in words
    assert "SEARCH/REPLACE" in words
    assert not set(hostile.FORBIDDEN) & set(words)
    assert "conversation" not in variants.variant(lineage, 2)
    assert variants.variant(lineage, 3, prompt=True)["conversation"] == []


def test_scores_stand_under_the_name_of_the_metric(lineage: Lineage, monkeypatch, printed) -> None:
    monkeypatch.setattr(Lineage, "metric", "accuracy_on_digits")
    best = variants.best(lineage)
    last = next(place for place, name in enumerate(lineage.ids) if name == best["best"][0]["variant_id"])
    drawn = [
        variants.draw_best(best),
        variants.draw_path(variants.path(lineage, last)),
        variants.draw_variant(variants.variant(lineage, last)),
    ]
    for each in drawn:
        words = "\n".join(printed(each))
        assert "accuracy" in words
        assert "val_bpb" not in words.partition("end of the log")[0]
