"""The whole search while the language model's server fails in every way: real driver, lineage, desk and HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import llm_server
import pytest
from scripted import SEED_SOURCE
from threaded import ThreadedCluster

from autoresearch_ray.config import Config, ModelConfig
from autoresearch_ray.evolution.driver import Driver
from autoresearch_ray.lineage.schema import Origin
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.operators import transcripts
from autoresearch_ray.operators.desk import Desk, terms_of

pytestmark = pytest.mark.slow
MODELS = tuple(
    ModelConfig(
        name=f"openai/{name}",
        usd_per_million_input=1,
        usd_per_million_output=2,
        max_output_tokens=1000,
        timeout_seconds=10,
    )
    for name in ("one", "two")
)


def search(folder: Path, server: llm_server.Server, seconds: float, **keys: Any) -> tuple[Driver, ThreadedCluster]:
    llm = {"models": MODELS, "api_base": server.api_base, "parameters_share": 0.0, "reasoned_crossovers": 1.0}
    values = {"population_size": 8, "num_islands": 2, "max_experiments": None, "llm": llm, **keys}
    config = Config(**values)
    with LineageStore.create(folder, "storm") as store:
        desk = Desk(terms_of(config, {}, folder, None, 0.0), 0.0)
        readiness = desk.check()
        cluster = ThreadedCluster(desk, slots=4, seconds=seconds)
        driver = Driver(config, cluster, store, Origin("storm"), program=lambda: "Lower.", call_usd=readiness.call_usd)
        driver.begin(SEED_SOURCE)
        driver.charge(readiness.usage)
        driver.run()
        cluster.close()
        rows = [recorded.row for recorded in store.replay(("variants",))]
    assert sorted(row["number"] for row in rows) == list(range(driver.births + 1))
    paid = sum(row["llm_usd"] for row in rows) + readiness.usage.usd
    assert driver.ledger.spent.usd == pytest.approx(paid)
    return driver, cluster


def test_five_hundred_births_while_three_of_ten_calls_fail(tmp_path: Path, server: llm_server.Server) -> None:
    server.reset()
    server.script(share=0.3)
    driver, cluster = search(tmp_path, server, seconds=0.8, max_births=500)
    counts, kept = server.counts(), list(transcripts.everything(tmp_path))
    assert driver.births == 500
    assert sum(driver.state.births.values()) == 501
    # every request that the server got is one attempt that was kept, and every attempt was paid once
    attempts = sum(len(each.attempts) + (each.reply is not None) for each in kept)
    checks = counts["requests"] - attempts
    assert len(MODELS) <= checks <= 2 * len(MODELS)
    usd = sum(each.usage.usd for each in kept)
    rows_usd = driver.ledger.spent.usd
    assert usd <= rows_usd <= usd + 0.01
    failed = {name: count for name, count in counts["faults"].items() if name != "none"}
    assert {
        "status",
        "truncated",
        "garbage",
        "wrong",
        "empty",
        "blank",
        "hang_up",
        "stream",
        "context",
    } <= failed.keys()
    assert 0.2 < sum(failed.values()) / counts["requests"] < 0.4
    assert cluster.share_busy >= 0.95


def test_with_the_server_gone_the_search_goes_on_with_numbers(tmp_path: Path, server: llm_server.Server) -> None:
    server.reset()
    down = [{"fault": "status", "status": 401}] * 2000
    server.script({"fault": "none"}, {"fault": "none"}, *down)
    driver, cluster = search(tmp_path, server, seconds=0.05, max_births=60)
    assert driver.births == 60
    assert len(cluster.experiments) > 30
    assert server.counts()["requests"] < 40
    assert driver.ledger.spent.usd < 0.001
