"""Births whose operators are at work: what each is asked with, whether anybody may be asked, and how long it takes.

Owns requests between order and answer. Does not own which operator a birth has (breeding.py), or what follows from an
answer (driver.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from autoresearch_ray.evolution.aftercare import reflects
from autoresearch_ray.evolution.availability import Availability
from autoresearch_ray.evolution.breeding import contract_of, parent_of
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.request import Crash, Parent, Request
from autoresearch_ray.variant import Birth, Operator, Variant

if TYPE_CHECKING:
    from autoresearch_ray.evolution.driver import Driver

_SMOOTHING = 0.2
_TRAINED_SMOOTHING = 0.05
_LEAST_TRAINED = 0.2


class Asking:
    """What the operators of a search have been asked and have not answered.

    Attributes:
        availability: whether language models may be asked.
        trouble: why the last that was asked gave no answer.
        unpriced: somebody was asked and nobody knows what it cost, so that no cap on dollars can hold.
    """

    def __init__(self, driver: Driver, program: Callable[[], str], facts: Sequence[str], call_usd: float) -> None:
        """Begin with nothing asked.

        Args:
            driver: whose births these are.
            program: returns the research direction as it reads now.
            facts: sentences about budget and hardware for operators that read.
            call_usd: the most that one call of a language model may cost.
        """
        self.availability = Availability(int(driver.config.language), call_usd)
        self.trouble = ""
        self.unpriced = False
        self._driver = driver
        self._program = program
        self._facts = tuple(facts)
        self._contract = contract_of(driver.config)
        self._open: dict[int, Request] = {}
        self._since: dict[int, float] = {}
        self._seconds = 0.0
        self._trained = 1.0

    def __len__(self) -> int:
        return len(self._open)

    @property
    def seconds(self) -> float:
        """Operators' time for each proposal that was trained lately, those that were not included."""
        return self._seconds / max(_LEAST_TRAINED, self._trained)

    def language(self) -> bool:
        """Whether the next birth may ask a language model, an agent or a person.

        Those that ask already are counted at their dearest; agents and people are asked so many things at a time.
        """
        driver = self._driver
        if not driver.config.language:
            return False
        asking = sum(request.language for request in self._open.values())
        asking += sum(birth.operator is Operator.MUTATION for birth in driver.islands.asked)
        if driver.config.operator.kind != "models" and asking >= driver.config.operator.at_once:
            return False
        return self.availability.now(driver.cluster.now(), driver.ledger, asking)

    def ask(
        self,
        birth: Birth,
        parents: Sequence[Variant],
        ancestor: int | None,
        *,
        language: bool,
        crash: Crash | None = None,
    ) -> None:
        """Ask a birth's operator.

        Args:
            birth: with its final operator.
            parents: the better first.
            ancestor: number of the parents' nearest common ancestor, or of the parent of what crashed.
            language: somebody may be asked.
            crash: how the parent crashed that is to be repaired.
        """
        driver, memory = self._driver, self._driver.memory
        language = language and birth.operator is not Operator.PARAMETERS
        for parent in parents:
            memory.keep(parent)
        request = Request(
            birth=birth,
            parents=tuple(map(self._parent, parents)),
            ancestor=None if ancestor is None else memory.recall(ancestor),
            program=self._program() if language else "",
            ideas=memory.ideas if language else (),
            facts=self._facts if language else (),
            contract=self._contract,
            language=language,
            trials=driver.records.trials.window() if birth.operator is Operator.PARAMETERS else (),
            sigma=driver.state.noise.estimate().sigma,
            crash=crash,
            notes=memory.notes if language else "",
            reflect=language and reflects(driver.config, birth.number, memory.noted),
        )
        if request.reflect:
            memory.noted = birth.number
        self._open[birth.number] = request
        self._since[birth.number] = driver.cluster.now()
        driver.cluster.propose(request)

    def put(self, birth: Birth, parent: Variant) -> None:
        """Take in a birth that nobody is asked about: a person has written it already."""
        self._open[birth.number] = Request(
            birth, (Parent(parent, None, None, 0),), None, "", (), (), self._contract, language=False
        )

    def answered(self, birth: Birth, answer: Proposal | Failure) -> list[Variant]:
        """Take in an operator's answer; return the birth's parents."""
        request, now = self._open.pop(birth.number), self._driver.cluster.now()
        if birth.number in self._since:
            self._seconds += _SMOOTHING * (now - self._since.pop(birth.number) - self._seconds)
        if request.language:
            self.unpriced = self.unpriced or not answer.usage.priced
            if self._driver.config.operator.kind == "agent":
                self.availability.paid(answer.usage.usd)
            trouble = answer.reason if isinstance(answer, Failure) else answer.unasked
            if answer.model is not None:  # nonsense too is an answer: what it costs is for the bandits to learn
                self.availability.answered(True, now)
            elif trouble:
                self.trouble = trouble
                self.availability.answered(False, now)
        if answer.notes is not None:
            self._driver.memory.notes = answer.notes
            records = self._driver.records
            records.event("reflection", variant_id=birth.variant_id, notes=answer.notes, number=birth.number)
        return [parent.variant for parent in request.parents]

    def judged(self, *, trained: bool) -> None:
        """Take in whether an answer was worth a training: more are made ahead where many are not."""
        self._trained += _TRAINED_SMOOTHING * (trained - self._trained)

    def _parent(self, variant: Variant) -> Parent:
        state, curve = self._driver.state, self._driver.memory.curve(variant.birth.number)
        return parent_of(variant, state, state.noise.estimate(), curve)
