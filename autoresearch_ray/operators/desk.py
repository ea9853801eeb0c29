"""Where births' operators are carried out, several at a time: whom to ask, what to check, what to keep, put together.

Owns the composition, and what it started. Does not own where it runs (cluster/ray_actors.py), or what operators do
(dispatch.py).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from autoresearch_ray.config import Config, LlmConfig, OperatorConfig
from autoresearch_ray.operators import bandit, credentials, dispatch, novelty
from autoresearch_ray.operators.agent import Agent
from autoresearch_ray.operators.aids import Aids
from autoresearch_ray.operators.dispatch import Whoever
from autoresearch_ray.operators.ensemble import LanguageModels, Readiness
from autoresearch_ray.operators.inbox import Inbox
from autoresearch_ray.operators.novelty import Remembered
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.request import Contract, Request
from autoresearch_ray.operators.transcripts import Transcripts
from autoresearch_ray.operators.workplace import Workplace
from autoresearch_ray.training import building
from autoresearch_ray.training.building import Builder
from autoresearch_ray.training.preflight import inspector
from autoresearch_ray.variant import Usage


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms operators work."""

    settings: LlmConfig = field(default_factory=LlmConfig)
    keys: dict[str, str] = field(default_factory=dict, repr=False)
    """Credentials by the names of their environment variables."""
    cap_usd: float | None = None
    spent_usd: float = 0.0
    """Before this sitting."""
    operator: OperatorConfig = field(default_factory=OperatorConfig)
    contract: Contract = field(default_factory=Contract)
    run: Path | None = None
    """The run's folder, on the machine where the search was started; None keeps nothing."""
    training_usd: float = 0.0
    """What one training is worth."""
    building: building.Terms | None = None
    """What a program finds where it is trained; None builds nothing ahead."""


def terms_of(config: Config, keys: dict[str, str], run: Path, data: Path | None, spent_usd: float) -> Terms:
    """Return what a configuration says about operators.

    Args:
        config: the run's.
        keys: credentials by the names of their environment variables.
        run: the run's folder.
        data: the prepared folder that is trained on; None where programs report their own score.
        spent_usd: dollars that earlier sittings spent.
    """
    scored = config.metric.kind == "scored"
    return Terms(
        settings=config.llm,
        keys=keys,
        cap_usd=config.max_cost_usd,
        spent_usd=spent_usd,
        operator=config.operator,
        contract=Contract() if scored else _reported(config),
        run=run.absolute(),
        training_usd=config.llm.usd_per_slot_hour * config.train_seconds / 3600,
        building=None if data is None else building.terms_of(config, data),
    )


def _reported(config: Config) -> Contract:
    return Contract(config.evolved_file, config.metric.name, config.metric.goal, scored=False)


class Desk:
    """Answers requests from several threads. A context of its own: close it."""

    def __init__(self, terms: Terms, spent_usd: float) -> None:
        """Start nothing yet.

        Args:
            terms: whom to ask and how.
            spent_usd: dollars spent before, those of this sitting included.
        """
        self._terms = terms
        self._models = _models(terms, spent_usd)
        self._asks: Whoever = self._models or _workplace(terms)
        self._builder = None if terms.building is None else Builder(terms.building)
        self._aids = self._put_together()
        if self._asks is not None and terms.run is not None:  # seconds, after which a change is compared with more
            told = (terms.run, self._aids.remembered)
            threading.Thread(target=novelty.recall, args=told, name="recall changes", daemon=True).start()

    def check(self) -> Readiness:
        """Find out before the first birth whether everybody can be asked (Raises ConfigError)."""
        if self._models is not None:
            return self._models.check()
        if isinstance(self._asks, Workplace):
            self._asks.check()
        return Readiness(Usage(), 0.0)

    def propose(self, request: Request) -> Proposal | Failure:
        """Return the operator's answer, and learn from what the request says of earlier ones."""
        if self._models is not None:
            for idea in request.ideas:
                if idea.model is not None:
                    self._models.learn(idea.variant_id, idea.model, bandit.win(idea.gain, idea.error))
        return dispatch.propose(request, self._asks, self._aids)

    def close(self) -> None:
        """End what was started; twice does no harm."""
        if isinstance(self._asks, Workplace):
            self._asks.close()
        if self._builder is not None:
            self._builder.close()

    def _put_together(self) -> Aids:
        terms = self._terms
        plain = Aids()
        return Aids(
            inspect=inspector(terms.contract.file, scored=terms.contract.scored),
            build=plain.build if self._builder is None else self._builder.refusal,
            builds_everything=terms.building is not None and terms.building.device == "cuda",
            remembered=Remembered(terms.settings.novelty),
            keep=plain.keep if terms.run is None else Transcripts(terms.run, self._redact).keep,
            reasoned_crossovers=terms.settings.reasoned_crossovers,
        )

    def _redact(self, text: str) -> str:
        return credentials.redact(text, self._terms.keys)


def _models(terms: Terms, spent_usd: float) -> LanguageModels | None:
    if not terms.settings.models:
        return None
    return LanguageModels(
        terms.settings, terms.keys, cap_usd=terms.cap_usd, spent_usd=spent_usd, training_usd=terms.training_usd
    )


def _workplace(terms: Terms) -> Workplace | None:
    most, run = terms.settings.max_prompt_tokens, terms.run or Path()
    if terms.operator.kind == "agent":
        return Agent(terms.operator, terms.keys, run / "agent" / "notes.md", most)
    if terms.operator.kind == "inbox":
        return Inbox(terms.operator.folder or run / "inbox", terms.operator, most)
    return None
