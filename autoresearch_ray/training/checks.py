"""What is observed of a model's answers beside its score, and what it comes to: a rule that was broken, or none.

Owns the sentences that say which rule. Does not own what is sent (plan.py) or the tests' mathematics (evidence.py).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from autoresearch_ray.training import evidence
from autoresearch_ray.training.evidence import ENOUGH, LEAST_LOG_PROBABILITY, Shown
from autoresearch_ray.training.plan import Kind, Plan, Standins

LOOKS_AHEAD = "looks ahead: the logits at a position depend on later tokens of the row"
EXPECTS_SHOWN = "looks ahead: tokens that were put in place of the true ones are expected before they are seen"
READS_OTHERS = "the logits of a row depend on the other rows of its batch"
LEARNS = "learns while scoring: rows that were sent again, or later, are predicted better"

LEAST_DIFFERENCE = {"float32": 0.1, "bfloat16": 0.5, "float16": 0.2}
"""Differences of log-probabilities up to this are taken for rounding, by the type in which logits come, where a single
one could count. Smaller ones count where they all point the same way."""
LEAST_COMPANY = {"float32": 0.03, "bfloat16": 0.5, "float16": 0.2}
"""The same for differences of rows between the same and other company."""
COMPANY_QUANTILE = 0.8
"""In half precision the position is looked at below which so many of a row's positions differ less: where a mixture of
experts is rounded otherwise in other company, a few tokens change their expert."""
LEAST_PREFIX = 8
"""Tokens that two rows must share for their losses to be compared."""

Array = npt.NDArray[np.float32]


class Checks:
    """Takes the answers batch by batch, in the order of the plan."""

    def __init__(self, plan: Plan, dtype: str, covariates: npt.NDArray[np.float64]) -> None:
        """Begin.

        Args:
            plan: what is sent.
            dtype: in which logits come.
            covariates: (rows, k), what may explain the losses of the scored rows.
        """
        self._plan = plan
        self._least = LEAST_DIFFERENCE[dtype]
        self._least_company = LEAST_COMPANY[dtype]
        self._company_quantile = 1.0 if dtype == "float32" else COMPANY_QUANTILE
        self._covariates = covariates
        self._losses: dict[int, Array] = {}
        self._kept: dict[int, Array] = {}
        self._shown: list[tuple[Standins, Array, Array]] = []
        self._trend: list[tuple[int, float]] = []
        self._improvements: list[float] = []
        self._leanings: list[float] = []
        self._same: dict[int, float] = {}
        self._other: dict[int, float] = {}
        self._suspect: tuple[float, int, int] | None = None
        self._confirmed: dict[Kind, list[float]] = {Kind.AGAIN: [], Kind.TWIN: []}

    def observe(self, start: int, logits: torch.Tensor, losses: torch.Tensor) -> None:
        """Take a batch.

        Args:
            start: place of its first row in the plan.
            logits: (n, T, V), finite, private.
            losses: (n, T) nats.
        """
        plan, stop = self._plan, start + len(losses)
        places = range(start, stop)
        on_cpu = losses.clamp(max=-LEAST_LOG_PROBABILITY).cpu().numpy()
        for place in places:
            self._note_losses(place, on_cpu[place - start])
        self._observe_standins([place for place in places if place in plan.standins], start, logits)
        probed: dict[int, list[int]] = {}
        for place in places:
            probe = plan.probes.get(int(plan.first[place]))
            if probe is not None and plan.kind[place] != Kind.FILLING:
                probed.setdefault(len(probe.positions), []).append(place)
        for alike in probed.values():
            for place, kept in zip(alike, self._probe(alike, start, logits), strict=True):
                self._compare(place, kept)

    def suspect(self) -> int | None:
        """Return the place of the twin that differs most from its original, if by more than rounding."""
        return None if self._suspect is None or self._suspect[0] <= self._least else self._suspect[1]

    def evidence(self) -> dict[str, list[float]]:
        """Return the log e-values of every test by the rule that it guards, in the order in which rules are told."""
        rows, losses = zip(*self._trend, strict=True) if self._trend else ((), ())
        return {
            LEARNS: [
                evidence.of_signs(np.array(self._improvements)),
                evidence.of_trend(np.array(losses), self._covariates[list(rows)]),
            ],
            READS_OTHERS: [evidence.of_signs(self._company())],
            LOOKS_AHEAD: [evidence.of_signs(np.array(self._leanings)), self._of_second_look()],
            EXPECTS_SHOWN: [evidence.of_shown(self._all_shown())],
        }

    def broken(self) -> str | None:
        """Return the rule that was broken, if there is evidence enough that one was."""
        found = self.evidence().items()
        return next((rule for rule, logs in found if max(logs) >= ENOUGH), None)

    def _note_losses(self, place: int, losses: Array) -> None:
        plan = self._plan
        kind, first = Kind(plan.kind[place]), int(plan.first[place])
        if kind is Kind.SCORE:
            self._trend.append((int(plan.row[place]), float(losses.mean())))
        if first == place:
            if place in plan.probes or place < plan.repeated:
                self._losses[place] = losses
        elif kind is Kind.REPEAT or (kind is Kind.TWIN and first >= plan.repeated):  # each first answer once
            # Of a twin the loss right before the cut is left out: who looks ahead is wrong there.
            shared = int(plan.cut[place]) if kind is Kind.TWIN else len(losses)
            if shared >= LEAST_PREFIX:
                self._improvements.append(float((self._losses[first][:shared] - losses[:shared]).mean()))

    def _observe_standins(self, places: list[int], start: int, logits: torch.Tensor) -> None:
        """Keep what the model thought of the stand-ins' alternatives, right before each."""
        for place in places:
            standins = self._plan.standins[place]
            if not len(standins.position):
                continue
            device = logits.device
            before = torch.from_numpy(standins.position - 1).to(device)
            logs = torch.log_softmax(logits[place - start, before].float(), dim=-1)
            alternatives = logs[
                torch.from_numpy(standins.place).to(device), torch.from_numpy(standins.alternative).to(device)
            ]
            logs.scatter_(1, torch.from_numpy(standins.truth).to(device)[:, None], -torch.inf)
            self._shown.append((standins, alternatives.cpu().numpy(), logs.amax(-1).exp().cpu().numpy()))

    def _all_shown(self) -> Shown:
        counts = [len(standins.position) for standins, _, _ in self._shown]
        sizes = [len(standins.place) for standins, _, _ in self._shown]
        before, above = np.cumsum([0, *counts]), np.cumsum([0, *sizes])
        shown = [standins for standins, _, _ in self._shown]

        def joined(parts: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
            return np.concatenate([np.empty(0, dtype=np.int64), *parts])

        def floats(parts: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
            return np.concatenate([np.empty(0), *parts])

        return Shown(
            place=joined([each.place + offset for each, offset in zip(shown, before, strict=False)]),
            probability=floats([each.probability for each in shown]),
            log_model=floats([logs.astype(np.float64) for _, logs, _ in self._shown]),
            chosen=joined([each.chosen + offset for each, offset in zip(shown, above, strict=False)]),
            surest=floats([surest.astype(np.float64) for _, _, surest in self._shown]),
        )

    def _probe(self, places: list[int], start: int, logits: torch.Tensor) -> Array:
        """Return the log-probabilities (places, p, k) that these rows' probes ask for, the smallest ones raised."""
        probes = [self._plan.probes[int(self._plan.first[place])] for place in places]
        device = logits.device
        rows = torch.tensor(places, device=device)[:, None] - start
        at = logits[rows, torch.from_numpy(np.stack([probe.positions for probe in probes])).to(device)].float()
        tokens = torch.from_numpy(np.stack([probe.tokens for probe in probes])).to(device)
        some = at.gather(2, tokens[:, None].expand(-1, at.shape[1], -1)) - at.logsumexp(-1, keepdim=True)
        kept: Array = some.clamp_(min=LEAST_LOG_PROBABILITY).cpu().numpy()
        return kept

    def _compare(self, place: int, kept: Array) -> None:
        """Compare a row that is sent again with its first answer, or keep that."""
        kind, first = Kind(self._plan.kind[place]), int(self._plan.first[place])
        if first == place:
            self._kept[place] = kept
            return
        difference = np.abs(kept - self._kept[first])
        if kind in (Kind.REPEAT, Kind.AGAIN):
            found = self._same if kind is Kind.REPEAT else self._other
            found[first] = float(np.quantile(difference.max(axis=1), self._company_quantile))
        elif kind is Kind.TWIN:
            at = kept[-1].astype(np.float64) - self._kept[first][-1]
            self._leanings.append(float(at[1] - at[0]))
            most = float(difference.max())
            if self._suspect is None or most > self._suspect[0]:
                self._suspect = (most, place, int(difference.max(axis=1).argmax()))
        elif kind is Kind.CONFIRM and self._suspect is not None:
            is_twin = int(self._plan.cut[place]) == int(self._plan.cut[self._suspect[1]])
            self._confirmed[Kind.TWIN if is_twin else Kind.AGAIN].append(float(difference[self._suspect[2]].max()))

    def _company(self) -> npt.NDArray[np.float64]:
        """Return by how much rows differ more, as a log ratio, in other company than in the same."""
        both = [(self._same[place], other) for place, other in self._other.items() if place in self._same]
        floored = np.maximum(np.array(both, dtype=np.float64).reshape(-1, 2), self._least_company)
        ratios: npt.NDArray[np.float64] = np.log(floored[:, 1] / floored[:, 0])
        return ratios

    def _of_second_look(self) -> float:
        """Return the log e-value of all twins of the second look lying apart from their originals, as they must."""
        originals, twins = (np.array(self._confirmed[kind]) for kind in (Kind.AGAIN, Kind.TWIN))
        if not evidence.separated(originals, twins, self._least):
            return 0.0
        return math.log(math.comb(len(originals) + len(twins), len(twins)))
