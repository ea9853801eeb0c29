from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from autoresearch_ray import config as configuration
from autoresearch_ray.config import MetricConfig
from autoresearch_ray.errors import ConfigError


def test_reported_is_short_for_a_kind() -> None:
    config = configuration.load(None, ["metric=reported"])
    assert config.metric == MetricConfig(kind="reported")
    assert config.words == ("python", "train.py")
    assert configuration.validate(yaml.safe_load(configuration.dump(config)), "x") == config


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("python solve.py --fast", ("python", "solve.py", "--fast")),
        ("sh -c 'a b' \"c d\"", ("sh", "-c", "a b", "c d")),
        ("[python, solve.py, 'a b']", ("python", "solve.py", "a b")),
        ("null", ("python", "solve.py")),
    ],
)
def test_a_command_is_words(command: str, words: tuple[str, ...]) -> None:
    config = configuration.load(None, ["metric=reported", "evolved_file=solve.py", f"command={command}"])
    assert config.words == words


def test_what_may_be_read_is_one_path_or_many() -> None:
    assert configuration.load(None, ["readable=~/.cache/x"]).readable == (Path("~/.cache/x"),)
    assert configuration.load(None, ["readable=[a, b]"]).readable == (Path("a"), Path("b"))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["metric=measured"], "metric.kind is 'measured': should be 'scored' or 'reported'"),
        (["metric.kid=reported"], "unknown key 'metric.kid': the nearest known key is 'metric.kind'"),
        (["metric.goal=maximize"], "metric.goal is 'maximize': it needs a program that reports its score"),
        (["metric.name=acc"], "metric.name is 'acc'"),
        (["command=sh x"], "command is 'sh x'"),
        (["metric.kind=reported", "metric.name=a b"], "metric.name is 'a b'"),
        (["metric=reported", "command="], None),
        (["metric=reported", "command=' '"], "command is empty"),
        (["metric=reported", "command=a 'b"], 'command is "a \'b": no closing quotation'),
        (["metric=reported", "evolved_file=../x.py"], "evolved_file is '../x.py': must be a file inside seed_model"),
        (["metric=reported", "evolved_file=/x.py"], "evolved_file is '/x.py'"),
        (["limits.peak_memory_gb=0"], "limits.peak_memory_gb is 0: must lie above 0"),
        (["limits.parameters=1"], "unknown key 'limits.parameters': the nearest known key is 'limits.parameters_M'"),
    ],
)
def test_bad_input_gets_a_sentence(overrides: list[str], says: str | None) -> None:
    if says is None:
        assert configuration.load(None, overrides)
        return
    with pytest.raises(ConfigError) as caught:
        configuration.load(None, overrides)
    assert says in str(caught.value)
