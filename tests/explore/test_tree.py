import json
from collections import Counter
from pathlib import Path

import hostile
import numpy as np
import pytest
import synthetic

from autoresearch_ray.explore import tree
from autoresearch_ray.explore.tree import Filters
from autoresearch_ray.lineage import schema
from autoresearch_ray.lineage.query import Lineage
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Status


def test_every_birth_is_drawn_or_counted(lineage: Lineage) -> None:
    for shown in (
        tree.phylogeny(lineage),
        tree.phylogeny(lineage, everything=True, limit=1000),
        tree.phylogeny(lineage, Filters(operator="crossover")),
        tree.phylogeny(lineage, limit=5),
    ):
        counted = Counter(shown["hidden"])
        for node in shown["nodes"]:
            counted.update(node["hidden"])
        assert len(shown["nodes"]) + sum(counted.values()) == len(lineage) == shown["births"]


def test_what_led_to_a_best_is_drawn_and_the_rest_is_not(lineage: Lineage) -> None:
    drawn = {node["variant_id"] for node in tree.phylogeny(lineage)["nodes"]}
    wanted = {lineage.ids[place] for place in np.flatnonzero(lineage.records)}
    wanted |= {lineage.ids[place] for place in lineage.best(tree.BEST_KEPT)}
    wanted |= {lineage.ids[step] for place in list(map(lineage.find, wanted)) for step in lineage.path(place)}
    assert drawn == wanted
    assert len(drawn) < len(lineage) / 2


def test_parents_come_before_children_and_the_path_is_marked(lineage: Lineage) -> None:
    nodes = tree.phylogeny(lineage)["nodes"]
    place = {node["variant_id"]: number for number, node in enumerate(nodes)}
    assert all(place[node["parent"]] < place[node["variant_id"]] for node in nodes if node["parent"])
    assert lineage.leader is not None
    path = [lineage.ids[step] for step in lineage.path(lineage.leader)]
    assert [node["variant_id"] for node in nodes if node["on_path"]] == path


def test_the_values_are_json(lineage: Lineage) -> None:
    shown = tree.phylogeny(lineage)
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown


def test_the_limit_keeps_the_way_to_the_best_and_says_what_it_cut(lineage: Lineage, printed) -> None:
    shown = tree.phylogeny(lineage, limit=4)
    assert len(shown["nodes"]) == 4
    assert all(node["on_path"] for node in shown["nodes"])
    assert f"{shown['cut']} more led somewhere" in "\n".join(printed(tree.draw(shown)))


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        (Filters(island=1), lambda row: row["island"] == 1),
        (Filters(operator="crossover"), lambda row: row["operator"] == "crossover"),
        (Filters(model="anthropic/claude-test"), lambda row: row["model"] == "anthropic/claude-test"),
        (Filters(model="claude-test"), lambda row: row["model"] == "anthropic/claude-test"),
        (Filters(model="test"), lambda row: False),
        (Filters(status="rejected"), lambda row: row["status"] == "rejected"),
        (Filters(generation=(2, 3)), lambda row: 2 <= row["generation"] <= 3),
        (Filters(island=0, operator="mutation"), lambda row: (row["island"], row["operator"]) == (0, "mutation")),
    ],
)
def test_filters_draw_what_passes_and_its_ancestors_faintly(lineage: Lineage, filters: Filters, passes) -> None:
    nodes = tree.phylogeny(lineage, filters)["nodes"]
    rows = lineage.tables.variants.to_pylist()
    assert {node["variant_id"] for node in nodes if not node["faint"]} == {r["variant_id"] for r in rows if passes(r)}
    ancestors = {lineage.ids[s] for n in nodes for s in lineage.path(lineage.find(n["variant_id"]))}
    assert {node["variant_id"] for node in nodes} == ancestors


def test_it_is_readable_at_80_columns_without_colour(lineage: Lineage, printed) -> None:
    lines = printed(tree.draw(tree.phylogeny(lineage)))
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].startswith("nov24: 100 births (")
    seed = next(line for line in lines if " seed " in line)
    assert seed.startswith("◆ ")
    assert "±" in seed
    [champion] = [line for line in lines if line.startswith("★  ")]
    assert lineage.leader is not None
    assert lineage.ids[lineage.leader][:7] in champion
    crossed = [line for line in lines if " crossover " in line]
    assert crossed
    assert all("×" in line for line in crossed)
    assert any("that led nowhere (" in line for line in lines)
    assert not any(line.startswith("    ") for line in lines[2:])  # the way to the best is not indented


def test_a_deep_and_a_wide_tree_stay_narrow(tmp_path: Path, printed) -> None:
    origin = synthetic.origin("deep")
    with LineageStore.create(tmp_path / "deep", "deep") as store:
        line = [synthetic.variant(0, run="deep")]
        for number in range(1, 1500):
            line.append(
                synthetic.variant(number, (line[-1 if number % 3 else -2 if len(line) > 1 else -1],), run="deep")
            )
        for born in line:
            store.append("variants", schema.variant_row(origin, born, Status.CRASHED, "ValueError: no"))
            if born.birth.number % 100 == 0:
                store.commit()
        store.commit()
    lines = printed(tree.draw(tree.phylogeny(Lineage.open(tmp_path / "deep"), everything=True, limit=2000)))
    assert len(lines) > 1500
    assert all(len(line) <= 80 for line in lines)
    assert all("crashed" in line for line in lines[3:1400])


def test_hostile_text_is_shown_and_not_obeyed(tmp_path: Path, printed) -> None:
    with LineageStore.create(tmp_path / "run", "run") as store:
        born = synthetic.variant(0, run="run", hypothesis=hostile.TEXT)
        store.append("variants", schema.variant_row(synthetic.origin(), born, Status.REJECTED, hostile.TEXT))
    shown = "\n".join(printed(tree.draw(tree.phylogeny(Lineage.open(tmp_path / "run"))), width=400))
    assert not set(hostile.FORBIDDEN) & set(shown)
    assert hostile.MARKUP in shown


def test_an_empty_run_and_a_run_with_a_seed_only(tmp_path: Path, printed) -> None:
    with LineageStore.create(tmp_path / "run", "run") as store:
        assert printed(tree.draw(tree.phylogeny(Lineage.open(tmp_path / "run")))) == ["no births yet"]
        evolution = synthetic.Evolution(run="run")
        evolution.record(store, 1)
        lines = printed(tree.draw(tree.phylogeny(Lineage.open(tmp_path / "run"))))
    assert len(lines) == 3
    assert "unconfirmed" in lines[0]


def test_damage_is_shown(run: Path, lineage: Lineage, printed) -> None:
    shown = tree.phylogeny(lineage) | {"damage": ["runs/x is damaged"]}
    assert "runs/x is damaged" in printed(tree.draw(shown))
