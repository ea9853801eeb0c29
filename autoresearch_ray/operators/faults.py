"""What a failed call means: a table of LiteLLM's exceptions, by class name, and what to do about each. Pure.

Does not own the calls, nor what may be raised by them (llm.py).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime

import numpy as np

from autoresearch_ray.variant import Usage

_LONGEST_PAUSE = 60.0
_LONGEST_RETRY_AFTER = 120.0


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an attempt brought nothing."""

    reason: str
    """As the provider said it: of any length, and perhaps with a key in it."""
    usage: Usage
    again: bool = False
    """Whether another attempt may do better."""
    retry_after: float | None = None
    """Seconds that the provider asks us to wait."""
    blames_model: bool = True
    """False: it is this prompt that failed; another may well be answered."""
    reached: bool = True
    """False: nobody was there to answer."""

    def pause(self, attempt: int, rng: np.random.Generator) -> float | None:
        """Return the seconds to wait before the next attempt; None where it is not worth one."""
        if not self.again or (self.retry_after or 0.0) > _LONGEST_RETRY_AFTER:
            return None
        pause = min(_LONGEST_PAUSE, 2.0**attempt) * rng.uniform(0.5, 1.0)
        return pause if self.retry_after is None else self.retry_after + 0.1 * pause


FAULTS: Mapping[str, tuple[str, bool]] = {
    "AuthenticationError": ("the key is missing or refused", False),
    "PermissionDeniedError": ("the key may not use this model", False),
    "NotFoundError": ("the provider does not know the model", False),
    "ModelNotMappedError": ("LiteLLM does not know the model", False),
    "ContextWindowExceededError": ("the prompt is too long for the model; lower llm.max_prompt_tokens", False),
    "PaymentRequiredError": ("the provider wants payment", False),
    "BudgetExceededError": ("a budget of LiteLLM's own is spent", False),
    "ContentPolicyViolationError": ("the provider's content policy refused the prompt", False),
    "GuardrailRaisedException": ("a guardrail refused the prompt", False),
    "BlockedPiiEntityError": ("a guardrail refused the prompt", False),
    "ModifyResponseException": ("a guardrail replaced the reply", False),
    "SensitiveDataRouteException": ("a guardrail refused the prompt", False),
    "UnsupportedParamsError": ("the model does not take one of its settings", False),
    "BadRequestError": ("the provider refuses the request", False),
    "UnprocessableEntityError": ("the provider refuses the request", False),
    "RateLimitError": ("the rate limit is reached", True),
    "Timeout": ("no answer in time", True),
    "APITimeoutError": ("no answer in time", True),
    "InternalServerError": ("the provider failed", True),
    "ServiceUnavailableError": ("the provider is overloaded", True),
    "BadGatewayError": ("the provider's gateway failed", True),
    "APIConnectionError": ("the connection failed", True),
    "APIResponseValidationError": ("the provider's answer cannot be read", True),
    "APIStatusError": ("the provider failed", True),
    "APIError": ("the provider failed", True),
    "OpenAIError": ("the call failed", False),
}
"""What LiteLLM's errors mean, by class name, and whether another attempt may help; a base class stands for the classes
that are not named. A test checks that the table covers all that LiteLLM defines."""

_UNBILLED = frozenset(
    {"AuthenticationError", "PermissionDeniedError", "NotFoundError", "BadRequestError", "RateLimitError"}
)
_OF_THE_PROMPT = frozenset(
    {
        "ContextWindowExceededError",
        "ContentPolicyViolationError",
        "GuardrailRaisedException",
        "BlockedPiiEntityError",
        "ModifyResponseException",
        "SensitiveDataRouteException",
    }
)
_BY_STATUS = {402: "PaymentRequiredError", 403: "PermissionDeniedError"}
_UNREACHABLE = frozenset({"ConnectError", "ConnectTimeout"})


def translate(error: BaseException, in_full: Usage) -> Fault:
    """Say what an exception of a call means.

    Args:
        error: as LiteLLM raised it.
        in_full: what the call costs where the provider may have carried it out: unless it said no, or was not reached.
    """
    if isinstance(error, SystemError) and error.__context__:
        # CPython before 3.13 may fail to format a traceback while another thread parses (see variant.parse).
        error = error.__context__
    status = getattr(error, "status_code", None)
    names = [kind.__name__ for kind in type(error).__mro__]
    if names[0] == "APIError" and status in _BY_STATUS:
        names.insert(0, _BY_STATUS[status])
    words, again = next((FAULTS[name] for name in names if name in FAULTS), ("LiteLLM failed", False))
    causes = {type(cause).__name__ for cause in _causes(error)}
    if causes & _UNREACHABLE:
        words = "nobody answers at its address"
    elif "insufficient_quota" in str(error) or (names[0] == "APIError" and isinstance(status, int) and status < 500):
        again = False
    free = "HTTPStatusError" in causes or causes & _UNREACHABLE or _UNBILLED.intersection(names)
    detail = re.sub(r"^(?:[\w.]*(?:Error|Exception|Timeout)\b[:\s-]*)+", "", str(error)).strip().rstrip(".")
    reason = f"{words} ({detail})" if detail else words
    return Fault(
        reason,
        Usage() if free else in_full,
        again,
        _retry_after(error),
        blames_model=not _OF_THE_PROMPT.intersection(names),
        reached=not causes & _UNREACHABLE,
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _retry_after(error: BaseException) -> float | None:
    """Return the seconds of a Retry-After header, given as such or as a date."""
    headers = getattr(error, "litellm_response_headers", None)
    text = (headers.get("retry-after") if headers else None) or ""
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp() - time.time())
