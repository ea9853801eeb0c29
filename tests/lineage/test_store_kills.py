"""Kills that are real (SIGKILL of another process), and kills at moments that hypothesis chooses."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import synthetic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoresearch_ray.lineage import schema, snapshot
from autoresearch_ray.lineage.journal import frame
from autoresearch_ray.lineage.sealing import Sealing
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Result, Status

ORIGIN = synthetic.origin("run")
TIGHT = Sealing(rows=7, fanout=2, grace_seconds=0)

DRIVER = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import test_store_kills as t
t.drive(Path(sys.argv[1]), int(sys.argv[3]))
"""


def variant(number: int):
    return synthetic.variant(number, run="run")


def add(store: LineageStore, number: int) -> None:
    born = variant(number)
    result = Result(Status.COMPLETED, val_bpb=float(number))
    store.append("experiments", schema.experiment_row(ORIGIN, synthetic.experiment(born), result))
    store.append("variants", schema.variant_row(ORIGIN, born, Status.COMPLETED))


def drive(folder: Path, births: int) -> None:
    """Go on with a run, saying each birth's number once it is durable."""
    with LineageStore.open(folder, sealing=TIGHT) as store:
        first = store.sequence // 2 + 1
        for number in range(first, first + births):
            store.reserve(variant(number).birth)
            store.commit()
            print("open", number, flush=True)
            add(store, number)
            store.commit()
            print("done", number, flush=True)


def start(folder: Path, births: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", DRIVER, str(folder), str(Path(__file__).parent), str(births)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def test_a_real_kill_loses_nothing_acknowledged(tmp_path: Path) -> None:
    draw = random.Random(7)
    LineageStore.create(tmp_path, "run").close()
    done = -1
    for _ in range(4):
        driver = start(tmp_path, 10_000)
        assert driver.stdout is not None
        wanted, last = draw.randrange(10, 60), ""
        for _ in range(wanted):
            last = driver.stdout.readline()
        os.kill(driver.pid, signal.SIGKILL)
        for line in driver.stdout:
            last = line or last
        driver.wait()
        driver.stdout.close()
        word, number = last.split()
        done = int(number) if word == "done" else int(number) - 1
        with LineageStore.open(tmp_path, sealing=TIGHT) as store:
            found = [recorded.row["number"] for recorded in store.replay(("variants",))]
            assert found == list(range(len(found)))  # none twice, none missing
            assert done + 1 <= len(found) <= done + 2  # at most the birth that was durable and not yet said to be
            assert [recorded.sequence for recorded in store.replay()] == list(range(2 * len(found)))
            assert [birth.number for birth in store.open_births()] in ([], [len(found)])
            for birth in store.open_births():
                add(store, birth.number)
    assert done > 30


def test_a_reader_beside_a_sealing_and_compacting_writer_sees_whole_snapshots(tmp_path: Path) -> None:
    LineageStore.create(tmp_path, "run").close()
    writer = start(tmp_path, 120)
    seen, looks = 0, 0
    assert writer.stdout is not None
    for line in writer.stdout:
        word, number = line.split()
        if word == "open" or int(number) % 3:
            continue
        tables = snapshot.read(tmp_path)
        births = len(tables.variants)
        assert tables.damage == ()
        assert births > int(number)  # what was acknowledged is there
        assert births >= seen
        assert tables.variants["number"].to_pylist() == list(range(births))
        together = sorted(tables.variants["sequence"].to_pylist() + tables.experiments["sequence"].to_pylist())
        assert together == list(range(2 * births))
        latest = tables.variants["sequence"][-1].as_py()
        row = snapshot.fetch(tmp_path, "variants", [1, latest], ["number", "source"])
        assert {key: value["source"] for key, value in row.items()} == {1: "x = 0\n", latest: f"x = {births - 1}\n"}
        seen, looks = births, looks + 1
    assert writer.wait() == 0
    writer.stdout.close()
    assert seen >= 118
    assert len(snapshot.read(tmp_path).variants) == 120
    assert looks > 30


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("birth"), st.integers(1, 4)),
        st.tuples(st.just("open"), st.integers(1, 3)),
        st.tuples(st.just("commit"), st.just(0)),
        st.tuples(st.just("seal"), st.just(0)),
        st.tuples(st.just("kill"), st.integers(0, 400)),
        st.tuples(st.just("close"), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, rows=st.integers(1, 12), fanout=st.integers(2, 4))
def test_any_mixture_of_commits_and_kills_keeps_exactly_what_was_committed(
    tmp_path_factory, steps: list[tuple[str, int]], rows: int, fanout: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    sealing = Sealing(rows=rows, fanout=fanout, grace_seconds=0)
    store = LineageStore.create(folder, "run", sealing=sealing)
    ended: list[int] = []  # committed
    opened: set[int] = set()  # committed
    new_ended: list[int] = []
    new_opened: set[int] = set()
    number = 0

    def commit() -> None:
        store.commit()
        ended.extend(new_ended)
        opened.update(new_opened)
        opened.difference_update(new_ended)
        new_ended.clear()
        new_opened.clear()

    for step, count in [*steps, ("kill", 0)]:
        if step == "birth":
            for _ in range(count):
                waiting = sorted((opened | new_opened) - set(new_ended))
                chosen = waiting[0] if waiting else number
                number += not waiting
                add(store, chosen)
                new_ended.append(chosen)
        elif step == "open":
            for _ in range(count):
                store.reserve(variant(number).birth)
                store.propose(variant(number))
                new_opened.add(number)
                number += 1
        elif step == "commit":
            commit()
        elif step == "seal":
            commit()
            store.seal()
        else:
            if step == "close":
                commit()
                store.close()
            else:
                path = store._journal.path
                store._release()
                with path.open("ab") as file:
                    file.write(frame(b"x" * 300)[: min(count, 311)])
                new_ended.clear()
                new_opened.clear()
            store = LineageStore.open(folder, sealing=sealing)
            assert [recorded.row["number"] for recorded in store.replay(("variants",))] == ended
            assert [recorded.sequence for recorded in store.replay()] == list(range(2 * len(ended)))
            assert {birth.number for birth in store.open_births()} == opened
            assert store.open_proposals() == tuple(variant(each) for each in sorted(opened))
            assert snapshot.read(folder).variants["number"].to_pylist() == ended
            assert store.damage == ()
            number = max([-1, *ended, *opened]) + 1
    store._release()
