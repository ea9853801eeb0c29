"""Credentials of language models: taken out of the environment, handed to a call, cut out of texts. Pure.

Does not own the calls (llm.py).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, MutableMapping

_SECRET = re.compile(r"(?:^|_)(?:API_?KEY|TOKEN|SECRET)$")
_PUBLIC = re.compile(r"_API_BASE$|_API_VERSION$|^VERTEXAI_|_REGION_")
_SHORTEST_SECRET = 6
_ARGUMENTS = {
    "AWS_ACCESS_KEY_ID": "aws_access_key_id",
    "AWS_SECRET_ACCESS_KEY": "aws_secret_access_key",
    "AWS_SESSION_TOKEN": "aws_session_token",
    "AWS_REGION_NAME": "aws_region_name",
    "VERTEXAI_PROJECT": "vertex_project",
    "VERTEXAI_LOCATION": "vertex_location",
}


def take(environment: MutableMapping[str, str]) -> dict[str, str]:
    """Remove from the environment what looks like a language model's credential, and return it.

    Taken: names that end in API_KEY, TOKEN or SECRET. Copied, and left there for others: addresses, versions and
    regions (*_API_BASE, *_API_VERSION, VERTEXAI_*), and AWS's credentials, which storage needs too. Ray's own token is
    left alone. Call this before Ray starts: raylets and workers inherit the environment.
    """
    copied = {name: text for name, text in environment.items() if _PUBLIC.search(name) or name in _ARGUMENTS}
    taken = [name for name in environment if _SECRET.search(name) and not name.startswith(("RAY_", "AWS_"))]
    return copied | {name: environment.pop(name) for name in taken}


def missing(wanted: Collection[str], keys: Mapping[str, str]) -> str:
    """Name what is wanted and not there; of several API keys one is enough. Empty when nothing is missing."""
    alternatives = [name for name in wanted if name.endswith("_API_KEY")]
    absent = [name for name in wanted if name not in alternatives and not keys.get(name)]
    if alternatives and not any(keys.get(name) for name in alternatives):
        absent.append(" or ".join(alternatives))
    return " and ".join(absent)


def arguments(provider: str, wanted: Collection[str], keys: Mapping[str, str]) -> dict[str, str]:
    """Return the credentials of a provider as LiteLLM's arguments.

    Args:
        provider: LiteLLM's name of it.
        wanted: the environment variables that LiteLLM would look for.
        keys: the credentials that there are.
    """
    given = {}
    for name in (*wanted, f"{provider.upper()}_API_KEY", *_ARGUMENTS):
        if keys.get(name) and (argument := _ARGUMENTS.get(name) or _argument(name)):
            given[argument] = keys[name]
    return given


def redact(text: str, keys: Mapping[str, str]) -> str:
    """Return a text without secrets: those of `keys`, and whatever else looks like a provider's key."""
    for name, value in keys.items():
        if len(value) >= _SHORTEST_SECRET and not _PUBLIC.search(name):
            text = text.replace(value, f"[{name}]")
    return re.sub(r"\b(?:sk|key|gsk|xai)-[\w*.-]{6,}", "[key]", text)


def _argument(name: str) -> str | None:
    suffix = re.search(r"_(API_KEY|API_BASE|API_VERSION)$", name)
    return suffix[1].lower() if suffix else None
