from pathlib import Path

import pytest
import yaml

from autoresearch_ray import config as configuration
from autoresearch_ray.config import Config
from autoresearch_ray.errors import ConfigError

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))


def test_defaults_need_no_file() -> None:
    assert configuration.load(None) == Config()
    assert Config().device == "cpu"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_configuration_loads(path: Path) -> None:
    assert configuration.load(path).train_seconds > 0


def test_there_are_shipped_configurations() -> None:
    assert {"quick.yaml", "one-gpu.yaml", "cluster.yaml"} <= {path.name for path in CONFIGS}


def test_overrides_win_over_the_file_and_later_ones_over_earlier(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("population_size: 4\ndata:\n  tokenizer: byte\n")
    config = configuration.load(path, ["population_size=8", "population_size=9", "data.sequence_length=64"])
    assert config.population_size == 9
    assert (config.data.tokenizer, config.data.sequence_length) == ("byte", 64)


def test_dump_reads_back(tmp_path: Path) -> None:
    config = configuration.load(None, ["num_gpus=0.25", "name=mar5", "crossover_probability=0.3"])
    path = tmp_path / "b.yaml"
    path.write_text(configuration.dump(config))
    assert configuration.load(path) == config
    assert config.device == "cuda"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("populaton_size=3", "unknown key 'populaton_size': the nearest known key is 'population_size'"),
        ("data.tokeniser=byte", "unknown key 'data.tokeniser': the nearest known key is 'data.tokenizer'"),
        ("tournament_size=0", "tournament_size is 0: must lie between 1 and 64"),
        ("population_size=0", "population_size is 0: must lie between 1 and 1000000, or be 'auto'"),
        ("population_size=foo", "population_size is 'foo'"),
        ("max_hours=-1", "max_hours is -1: must lie above 0"),
        ("num_gpus=0.3", "num_gpus is 0.3: must divide a GPU evenly"),
        ("pacing=fast", "'steady_state' or 'generational'"),
        ("max_experiments=null", "the run would never end"),
        ("name=a b", "name is 'a b'"),
        ("data=3", "data is 3"),
        ("data.vocab_size=3", "data.vocab_size is 3: must lie between 257 and 65536"),
        ("llm.models=[{nam: x}]", "the nearest known key is 'llm.models[].name'"),
        ("llm.models=[{name: a/b, weight: 0}]", "llm.models.weight is 0: must lie above 0"),
        (
            "llm.models=[{name: a/b, max_output_tokens: 1}]",
            "llm.models.max_output_tokens is 1: must lie at or above 256",
        ),
        ("llm.models=[{name: a/b, usd_per_million_input: 1}]", "the price of a/b is half"),
        ("llm.models=gpt-4o", "llm.models is 'gpt-4o'"),
        ("llm.retries=-1", "llm.retries is -1: must lie between 0 and 10"),
        ("seed", "expected key=value"),
        ("seed.a=1", "seed"),
        ("seed=[1", "not valid YAML"),
    ],
)
def test_bad_input_gets_a_sentence(override: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configuration.load(None, [override])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "says"), [("- 1", "expected `key: value` lines"), ("a: [", "not valid YAML")])
def test_a_file_that_is_no_configuration(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml") as caught:
        configuration.load(path)
    assert says in str(caught.value)


@pytest.mark.parametrize("override", ["finish_by=08:00", "finish_by=22:30", "name=on", "name=2026-11-24"])
def test_times_dates_and_words_are_text(override: str) -> None:
    key, _, text = override.partition("=")
    assert getattr(configuration.load(None, [override]), key) == text


def test_numbers_and_booleans_are_numbers_and_booleans() -> None:
    config = configuration.load(None, ["train_seconds=1e2", "seed=007", "num_gpus=.5"])
    assert (config.train_seconds, config.seed, config.num_gpus) == (100.0, 7, 0.5)


def test_direct_values_are_not_yaml_and_win() -> None:
    assert configuration.load(None, ["name=a"], {"name": "123"}).name == "123"
    with pytest.raises(ConfigError, match="name is ''"):
        configuration.load(None, [], {"name": ""})


def test_a_missing_file() -> None:
    with pytest.raises(ConfigError, match="there is no such configuration file"):
        configuration.load(Path("nowhere.yaml"))


def test_every_key_is_documented_where_it_is_defined() -> None:
    for key in configuration.known_keys():
        section = Config
        *outer, name = key.split(".")
        for part in outer:
            section = configuration.subsection(section.model_fields[part.removesuffix("[]")].annotation)  # type: ignore[assignment]
        assert section.model_fields[name].description, key
    assert set(yaml.safe_load(configuration.dump(Config()))) == {
        key.split(".")[0] for key in configuration.known_keys()
    }


@pytest.mark.parametrize(
    ("operator", "kind", "words"),
    [
        ("models", "models", ()),
        ("inbox", "inbox", ()),
        ("codex", "agent", ("codex", "exec", "--json", "--skip-git-repo-check", "--sandbox", "workspace-write", "-")),
        ({"command": ["a", "b"]}, "agent", ("a", "b")),
        ({"preset": "claude", "command": ["my-claude", "-p"]}, "agent", ("my-claude", "-p")),
    ],
)
def test_operators_are_named_in_short(operator: object, kind: str, words: tuple[str, ...]) -> None:
    config = configuration.validate({"operator": operator}, "here")
    assert (config.operator.kind, config.operator.words, config.language) == (kind, words, kind != "models")
    assert load_again(config) == config


def load_again(config: Config) -> Config:
    return configuration.validate(yaml.safe_load(configuration.dump(config)), "here")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"operator": {"command": []}}, "operator has no command"),
        ({"operator": {"environment": ["A"]}}, "operator has no command"),
        ({"operator": {"kind": "inbox", "command": ["a"]}}, "a command or preset needs the kind agent"),
        ({"operator": {"folder": "x"}}, "only operator.kind inbox has a folder"),
        ({"operator": "gpt"}, "operator.kind is 'gpt'"),
        ({"operator": "inbox", "llm": {"models": [{"name": "openai/x"}]}}, "llm.models must be empty then"),
        ({"llm": {"models": [{"name": "openai/x"}] * 2}}, "name openai/x 2 times"),
        ({"llm": {"models": [{"name": "openai/x", "tokens_per_minute": 5}]}}, "must lie at or above 1000"),
        ({"llm": {"models": [{"name": "openai/x", "reasoning_effort": "max"}]}}, "reasoning_effort is 'max'"),
    ],
)
def test_operators_that_cannot_be_are_a_sentence(values: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configuration.validate(values, "here")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
