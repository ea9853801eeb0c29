"""Requests on their way to the operators' process."""

from __future__ import annotations

import pickle
from dataclasses import fields, replace
from datetime import datetime, timezone

from autoresearch_ray.operators.request import Contract, Crash, Parent, Request, Trial
from autoresearch_ray.operators.tunables import Literals
from autoresearch_ray.variant import Birth, Operator, Variant

BIRTH = Birth(7, "00000000007a", 1, Operator.PARAMETERS, 2**61)
VARIANT = Variant(BIRTH, ("000000000001",), 3, "DEPTH = 8\n", "deeper", datetime(2025, 3, 8, tzinfo=timezone.utc))
TRIALS = (
    Trial(Literals({"DEPTH": 8, "RATE": 0.5, "BETAS": (0.9, 0.95)}, "a"), 0.99, 2),
    Trial(Literals({}, "b"), failed=True),
    Trial(Literals({"DEPTH": 9}, "a")),
)


def test_a_request_arrives_as_it_was_sent() -> None:
    request = Request(
        birth=BIRTH,
        parents=(Parent(VARIANT, 0.99, 0.01, 2, ((0.5, 2.0),)),),
        ancestor=VARIANT,
        program="be bold",
        ideas=(),
        facts=("One training has 300 seconds.",),
        contract=Contract(file="other.py", scored=False),
        trials=TRIALS,
        sigma=0.0005,
        language=False,
        crash=Crash("out of memory", "Traceback"),
        notes="notes",
        reflect=True,
    )
    unset = {each.name for each in fields(Request) if each.default == getattr(request, each.name)}
    assert not unset, "each field must differ from its default, or its loss would not be seen"
    assert pickle.loads(pickle.dumps(request)) == request
    assert pickle.loads(pickle.dumps(replace(request, trials=()))).trials == ()


def test_trials_travel_as_plain_values() -> None:
    request = Request(BIRTH, (Parent(VARIANT, None, None, 0),), None, "", (), (), trials=TRIALS * 100)
    assert pickle.dumps(request).count(b"Trial") <= 1
