"""`confirm`: trains the best of a finished run on fresh seeds, and prints what they are worth, with intervals."""

from __future__ import annotations

import math
import os
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from scipy import stats

from autoresearch_ray import config as configuration
from autoresearch_ray.cli import sandboxing
from autoresearch_ray.cli.output import console, errors, show
from autoresearch_ray.cli.running import origin_of, same_class
from autoresearch_ray.cluster.ray import RayCluster
from autoresearch_ray.cluster.slots import Slot
from autoresearch_ray.cluster.trainer import trainer_of
from autoresearch_ray.errors import RunError
from autoresearch_ray.evolution.confirmation import Confirmation, Confirmed, confirm
from autoresearch_ray.explore.text import plain, unit
from autoresearch_ray.lineage import finding
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.operators import credentials
from autoresearch_ray.variant import Result

_LEVEL = 0.95


def carry_out(folder: Path, top: int, seeds: int, address: str | None, as_json: bool) -> int:
    """Confirm the best of a run; return 0, or 1 if no training had a score.

    Raises:
        RunError: the run is live, or has no finished experiment; or its class is not that of this machine.
    """
    if finding.is_live(folder):
        raise RunError(f"{folder.name} is running: `autoresearch-ray stop` ends it gently, then confirm.")
    extra = [] if address is None else [f"address={address}"]
    config = configuration.load(folder / "config.yaml", extra)
    credentials.take(os.environ)  # no model is asked, and Ray's workers would inherit them
    with LineageStore.open(folder) as lineage:
        if not any(recorded.row["val_bpb"] is not None for recorded in lineage.replay(["experiments"])):
            raise RunError(f"{folder.name} has no finished experiment with a score: there is nothing to confirm.")
        trainer = trainer_of(config)
        sandboxing.check(trainer)
        slot = Slot(config.num_cpus, config.num_gpus)
        with RayCluster(
            trainer, slot, max_slots=config.max_slots, address=config.address, gpu_model=config.gpu_model
        ) as cluster:
            origin = origin_of(folder, trainer, cluster.gpu_model)
            same_class(lineage, origin)
            for warning in cluster.warnings():
                errors.print(f"warning: {warning}", markup=False, soft_wrap=True)

            def say(variant_id: str, result: Result) -> None:
                if not as_json:
                    score = "" if result.val_bpb is None else f"{result.val_bpb:.4f}"
                    console.print(f"{variant_id[:7]}  {score or plain(result.reason)}", markup=False, soft_wrap=True)

            found = confirm(config, cluster, lineage, origin, top, seeds, say)
    show(render(found, config.metric.name), found, as_json)
    return 0 if any(variant.scores for variant in found.variants) else 1


def render(found: Confirmation, metric: str) -> RenderableType:
    """Return the table: what the run believed, and what fresh seeds say."""
    scores = _table("variant", "as the run had it", "fresh seeds", "95 % interval")
    gains = _table("variant", "gain on the seed", "P(better)", "holdout")
    ideas = [Text()]
    seed = found.variants[0]
    for variant in found.variants:
        name = "seed" if variant is seed else variant.variant_id[:7]
        before = f"{variant.before.mean:.4f} ± {variant.before.sd:.4f} ({variant.before.count})"
        scores.add_row(name, before, _mean(variant.scores, found.sigma), _interval(variant.scores, found))
        sure = "" if variant.p_better is None else f"{variant.p_better:.3f}"
        gains.add_row(name, _gain(variant, seed, found.sigma), sure, _mean(variant.holdout, found.sigma))
        if variant is not seed:
            ideas.append(Text(f"{name}  {plain(variant.hypothesis)}", overflow="ellipsis", no_wrap=True))
    trainings = sum(len(variant.scores) + variant.failed for variant in found.variants)
    note = (
        f"\n{unit(metric)}; ± is one standard error, in brackets the trainings. Seed noise {found.sigma:.4f}, from "
        f"{found.freedom} degrees of freedom; {trainings} fresh trainings. The run chose the best of many, so fresh "
        "scores are mostly a little worse than it believed."
    )
    return Group(scores, Text(), gains, *ideas, Text(note, style="dim"))


def _table(*names: str) -> Table:
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for name in names:
        table.add_column(name, justify="left" if name == "variant" else "right", no_wrap=True)
    return table


def _mean(values: tuple[float, ...], sigma: float) -> str:
    if not values:
        return "-"
    return f"{math.fsum(values) / len(values):.4f} ± {sigma / math.sqrt(len(values)):.4f} ({len(values)})"


def _interval(values: tuple[float, ...], found: Confirmation) -> str:
    if not values:
        return "-"
    mean = math.fsum(values) / len(values)
    reach = float(stats.t.ppf(0.5 + _LEVEL / 2, max(found.freedom, 1))) * found.sigma / math.sqrt(len(values))
    return f"{mean - reach:.4f} to {mean + reach:.4f}"


def _gain(variant: Confirmed, seed: Confirmed, sigma: float) -> str:
    if variant.gain is None:
        return "" if variant is seed else "-"
    error = sigma * math.sqrt(1 / len(variant.scores) + 1 / len(seed.scores))
    return f"{variant.gain:+.4f} ± {error:.4f}"
