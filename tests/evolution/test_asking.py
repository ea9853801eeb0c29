"""The driver and operators that read: repairs, reflections, stand-ins, refusals, and how many are asked at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from scripted import SEED_SOURCE, ScriptedCluster, bowl

from autoresearch_ray.config import Config
from autoresearch_ray.evolution.cluster import Proposed
from autoresearch_ray.evolution.driver import Driver
from autoresearch_ray.evolution.replay import replay
from autoresearch_ray.lineage.schema import Origin
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.operators import dispatch
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.request import Request
from autoresearch_ray.variant import Experiment, Operator, Result, Status, Usage

LLM = {"models": [{"name": "openai/x"}], "parameters_share": 0.0}
CRASH = Result(Status.CRASHED, "NameError: no", log_tail="Traceback\nNameError: no", train_seconds=0.0)


class Reading(ScriptedCluster):
    """Whoever is asked answers by a function; everything else is as ever."""

    def __init__(
        self,
        answer: Callable[[Request], Proposal | Failure],
        train: Callable[[Experiment], Result] = bowl,
    ) -> None:
        super().__init__(train)
        self.answer = answer
        self.requests: list[Request] = []

    def propose(self, request: Request) -> None:
        self.proposals.append(request.birth)
        self.requests.append(request)
        answer = self.answer(request) if request.language else dispatch.propose(request)
        self._queue.append(lambda: Proposed(request.birth, answer))


def numbered(request: Request, **fields: Any) -> Proposal:
    """A proposal that is never the same as another."""
    source = f"{request.parents[0].variant.source}NUMBER_{request.birth.number} = 1\n"
    return Proposal(source, f"idea {request.birth.number}", model="openai/x", **fields)


def search(folder: Path, cluster: Reading, **keys: Any) -> tuple[Driver, list[dict[str, Any]]]:
    values = {"max_births": 30, "max_experiments": None, "max_cost_usd": None, "population_size": 4, "llm": LLM}
    config = Config(**{**values, "num_islands": 1, "crossover_probability": 0.0, **keys})
    with LineageStore.create(folder, "run") as store:
        driver = Driver(config, cluster, store, Origin("run"), program=lambda: "Lower.")
        driver.begin(SEED_SOURCE)
        driver.run()
        rows = [recorded.row for recorded in store.replay(("variants",), bulky=True)]
    assert sorted(row["number"] for row in rows) == list(range(driver.births + 1))
    return driver, rows


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    with LineageStore.open(folder) as store:
        return [recorded.row for recorded in store.replay(("events",)) if recorded.row["kind"] == kind]


# -------------------------------------------------------------------------------------------------------------- repairs


def broken_mutations(request: Request) -> Proposal:
    if request.birth.operator is Operator.REPAIR:
        return Proposal(request.parents[0].variant.source.replace("BROKEN", "MENDED"), "mended", model="openai/x")
    return Proposal(
        f"{request.parents[0].variant.source}BROKEN_{request.birth.number} = 1\n", "broken", model="openai/x"
    )


def crash_if_broken(experiment: Experiment) -> Result:
    return CRASH if "BROKEN" in experiment.source else bowl(experiment)


def test_an_early_crash_is_mended_by_a_birth_of_its_own(tmp_path: Path) -> None:
    cluster = Reading(broken_mutations, crash_if_broken)
    driver, rows = search(tmp_path, cluster)
    by_id = {row["variant_id"]: row for row in rows}
    repairs = [row for row in rows if row["operator"] == "repair"]
    assert len(repairs) >= 10
    assert all(row["status"] == "completed" for row in repairs)
    for row in repairs:
        (parent,) = row["parents"]
        assert by_id[parent]["status"] == "crashed"
        assert row["island"] == by_id[parent]["island"]
        assert row["generation"] == by_id[parent]["generation"] + 1
    asked = next(request for request in cluster.requests if request.birth.operator is Operator.REPAIR)
    assert asked.crash is not None
    assert asked.crash.reason == "NameError: no"
    assert asked.ancestor is not None
    assert asked.ancestor.source == SEED_SOURCE
    ideas = {idea.variant_id: idea for idea in driver.memory.ideas}
    assert any(ideas[row["variant_id"]].gain is not None for row in repairs if row["variant_id"] in ideas)


def test_a_repair_that_crashes_is_not_repaired_for_ever(tmp_path: Path) -> None:
    def never(request: Request) -> Proposal:
        return numbered(request)

    def crash(experiment: Experiment) -> Result:
        return CRASH if "NUMBER_" in experiment.source else bowl(experiment)

    for most, expected in ((0, 0), (1, 0.5), (3, 0.75)):
        folder = tmp_path / str(most)
        _, rows = search(folder, Reading(never, crash), llm={**LLM, "repair_attempts": most}, max_births=40)
        share = sum(row["operator"] == "repair" for row in rows) / 40
        assert abs(share - expected) <= 0.1


def test_late_crashes_and_those_of_numbers_are_left_alone(tmp_path: Path) -> None:
    late = Result(Status.CRASHED, "late", train_seconds=200.0)

    def crash(experiment: Experiment) -> Result:
        return late if "NUMBER_" in experiment.source else bowl(experiment)

    _, rows = search(tmp_path / "late", Reading(numbered, crash))
    assert {row["operator"] for row in rows} == {"seed", "mutation"}
    everything = Reading(numbered, lambda run: bowl(run) if run.source == SEED_SOURCE else CRASH)
    _, rows = search(tmp_path / "numbers", everything, llm={**LLM, "parameters_share": 1.0})
    assert {row["operator"] for row in rows} == {"seed", "parameters"}


# ---------------------------------------------------------------------------------------------------------- reflections


def test_notes_are_written_now_and_then_kept_and_told(tmp_path: Path) -> None:
    def answer(request: Request) -> Proposal:
        return numbered(request, notes=f"- after {request.birth.number}" if request.reflect else None)

    cluster = Reading(answer)
    driver, _ = search(tmp_path, cluster, llm={**LLM, "reflect_every": 10})
    assert [request.birth.number for request in cluster.requests if request.reflect] == [10, 20, 30]
    assert [json.loads(row["details"])["notes"] for row in events(tmp_path, "reflection")] == [
        "- after 10",
        "- after 20",
        "- after 30",
    ]
    assert next(request.notes for request in cluster.requests if request.birth.number == 29) == "- after 20"
    again = Reading(answer)
    with LineageStore.open(tmp_path) as store:
        resumed = Driver(Config(**{**driver.config.model_dump(), "max_births": 36}), again, store, Origin("run"))
        resumed.resume()
        assert resumed.memory.notes == "- after 30"
        assert len(resumed.memory.ideas) >= 25
        assert all(idea.gain is not None for idea in resumed.memory.ideas)
        resumed.run()
    assert {request.notes for request in again.requests} == {"- after 30"}
    assert not any(request.reflect for request in again.requests)


# ------------------------------------------------------------------------------------------------- stand-ins, refusals


def test_a_stand_in_is_recorded_as_what_it_was_and_the_models_count_as_down(tmp_path: Path) -> None:
    def down(request: Request) -> Proposal:
        source = f"{request.parents[0].variant.source}NUMBER_{request.birth.number} = 1\n"
        return Proposal(source, "turned", operator=Operator.PARAMETERS, unasked="No language model answers.")

    cluster = Reading(down)
    driver, rows = search(tmp_path, cluster)
    assert {row["operator"] for row in rows} == {"seed", "parameters"}
    assert all(row["model"] is None for row in rows)
    assert driver.availability.down
    assert sum(request.language for request in cluster.requests) < 15


def test_nonsense_is_an_answer_that_is_paid_for_and_nobody_counts_as_down(tmp_path: Path) -> None:
    paid = Usage(1000, 100, 0.5)
    cluster = Reading(lambda request: Failure("openai/x gave no usable reply.", paid, "openai/x", "p", "q"))
    driver, rows = search(tmp_path, cluster)
    assert not driver.availability.down
    assert all(request.language for request in cluster.requests)
    failed = [row for row in rows if row["number"]]
    assert {(row["status"], row["model"], row["prompt_hash"]) for row in failed} == {
        ("operator_failed", "openai/x", "p")
    }
    assert {idea.model for idea in cluster.requests[-1].ideas} == {"openai/x"}  # so that the bandit learns of it
    down = Reading(lambda request: Failure("no answer", paid))
    driver, rows = search(tmp_path / "down", down)
    assert driver.availability.down
    assert sum(request.language for request in down.requests) < 15
    assert {row["model"] for row in rows} == {None}


def test_what_nobody_knows_the_price_of_is_null(tmp_path: Path) -> None:
    used = (Usage(10, 5, priced=False), Usage(priced=False), Usage(10, 5, 0.5, priced=False), Usage(10, 5, 0.5))
    cluster = Reading(lambda request: numbered(request, usage=used[request.birth.number % 4]))
    driver, rows = search(tmp_path, cluster)
    known = {row["number"] % 4: (row["llm_tokens_in"], row["llm_tokens_out"], row["llm_usd"]) for row in rows[1:]}
    assert known == {0: (10, 5, None), 1: (None, None, None), 2: (10, 5, 0.5), 3: (10, 5, 0.5)}
    with LineageStore.open(tmp_path) as store:
        assert replay(store).spent.usd == driver.ledger.spent.usd == 0.5 * 15


def test_what_operators_refuse_is_rejected_with_its_source_and_never_trained(tmp_path: Path) -> None:
    cluster = Reading(lambda request: numbered(request, refusal="it would not fit"))
    _, rows = search(tmp_path, cluster)
    asked = [row for row in rows if row["operator"] == "mutation"]
    assert {(row["status"], row["reason"]) for row in asked} == {("rejected", "it would not fit")}
    assert all(row["source"] for row in asked)
    assert len(cluster.experiments) == 2  # the seed's


def test_more_are_made_ahead_where_many_come_to_nothing(tmp_path: Path) -> None:
    driver, _ = search(tmp_path / "none", Reading(lambda request: Failure("no")))
    trained, _ = search(tmp_path / "all", Reading(numbered))
    driver.asking._seconds = trained.asking._seconds = 10.0
    assert driver.asking.seconds > 1.2 * trained.asking.seconds


def test_what_an_idea_says_of_a_birth(tmp_path: Path) -> None:
    def crash(experiment: Experiment) -> Result:
        return CRASH if "NUMBER_3 " in experiment.source else bowl(experiment)

    driver, rows = search(tmp_path, Reading(numbered, crash), llm={**LLM, "repair_attempts": 0})
    ideas = {idea.variant_id: idea for idea in driver.memory.ideas}
    for row in rows[1:]:
        idea = ideas[row["variant_id"]]
        assert (list(idea.parents), idea.island, idea.model) == (row["parents"], row["island"], "openai/x")
    crashed = next(idea for idea in ideas.values() if idea.status is Status.CRASHED)
    assert crashed.tail.startswith("Traceback")


def test_parents_are_shown_with_their_curves(tmp_path: Path) -> None:
    curve = ((0.5, 4.0), (1.0, 3.0))
    cluster = Reading(numbered, lambda experiment: replace(bowl(experiment), curve=curve))
    search(tmp_path, cluster)
    assert cluster.requests[-1].parents[0].curve == curve


# --------------------------------------------------------------------------------------------------------- at a time


def test_agents_and_people_are_asked_so_many_things_at_a_time(tmp_path: Path) -> None:
    class Slow(Reading):
        """Never answers what it is asked."""

        def propose(self, request: Request) -> None:
            if request.language:
                self.requests.append(request)
                return
            super().propose(request)

    cluster = Slow(numbered)
    config = Config(
        operator={"command": ["agent"], "at_once": 2},
        llm={"parameters_share": 0.0},
        max_births=30,
        max_experiments=None,
        population_size=4,
        num_islands=1,
        crossover_probability=0.0,
    )
    with LineageStore.create(tmp_path, "run") as store:
        driver = Driver(config, cluster, store, Origin("run"))
        driver.begin(SEED_SOURCE)
        waited = 0

        def watch(driver: Driver) -> None:
            nonlocal waited
            waited = waited + 1 if driver.births == 30 else 0
            driver.halted = waited > 40

        driver.watch = watch
        driver.run()
    asked = [request for request in cluster.requests if request.language]
    assert len(asked) == 2
    assert len(cluster.requests) == 30
