"""One YAML file, one frozen model: every key is documented where it is defined, and an unknown key is an error.

Owns names, ranges and defaults. Does not own what a key means to a room; relative paths are relative to the working
directory, as on a command line.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from autoresearch_ray.errors import ConfigError, why
from autoresearch_ray.operator_config import LlmConfig as LlmConfig
from autoresearch_ray.operator_config import ModelConfig as ModelConfig
from autoresearch_ray.operator_config import OperatorConfig as OperatorConfig
from autoresearch_ray.operator_config import Section


class DataConfig(Section):
    """What is trained on and scored on; prepared once into packed rows of `sequence_length` + 1 tokens."""

    corpus: str = "python"
    """`python` (offline: the source of this project's pinned packages), `climbmix` (autoresearch's shards from Hugging
    Face), or a path to a folder or file of text or Parquet."""
    tokenizer: Literal["bpe", "byte"] = "bpe"
    """`bpe` trains a vocabulary with rustbpe; `byte` is one token a byte, for small and quick models."""
    vocab_size: int = Field(8192, ge=257, le=65536)
    """Tokens in the BPE vocabulary, special tokens included; ignored by `byte`."""
    sequence_length: int = Field(2048, ge=16, le=65536)
    """Tokens a row is trained and scored on (T)."""
    val_tokens: int = Field(10_000_000, ge=1024)
    """At most so many tokens are scored after each training. More lowers the noise of the score and costs time."""
    holdout_tokens: int = Field(10_000_000, ge=1024)
    """At most so many tokens are kept apart for champions; neither operators nor selection ever see their score."""
    shards: int = Field(10, ge=1, le=6542)
    """`climbmix` only: training shards to download, of about 250 million characters each."""
    base_url: str = "https://huggingface.co/datasets/karpathy/climbmix-400b-shuffle/resolve/main"
    """`climbmix` only: where the shards lie."""
    directory: Path | None = None
    """Where the prepared rows are kept; by default a folder of the cache named after these settings."""


class MetricConfig(Section):
    """How a variant gets its score; `metric: reported` alone is short for `metric: {kind: reported}`."""

    kind: Literal["scored", "reported"] = "scored"
    """`scored`: the supervisor computes val_bpb itself, and rows are verified. `reported`: any program that prints it,
    as a line `---` followed by lines `name: value`, or as `METRIC name=value`; rows are not verified."""
    name: str = Field("val_bpb", pattern=r"^[A-Za-z_][A-Za-z0-9_./-]{0,63}$")
    """`reported` only: what the program calls its score. The lineage keeps the value as printed, as `val_bpb`."""
    goal: Literal["minimize", "maximize"] = "minimize"
    """`reported` only: `maximize` when higher is better."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value


class LimitsConfig(Section):
    """What a variant may not exceed, measured or counted from outside; null is no limit."""

    peak_memory_gb: float | None = Field(None, gt=0)
    """GiB. On the CPU what all its processes hold together, whatever it says; on a GPU what it says of the device."""
    parameters_M: float | None = Field(None, gt=0)
    """Millions of parameters, as the variant's process counts them or its block says."""
    scratch_gb: float = Field(2.0, ge=0.01)
    """GiB that a variant's files may take together; where the sandbox can mount a file system of its own they are kept
    in memory, and count as that."""
    scratch_files: int = Field(100_000, ge=100)
    """Files that a variant may have."""
    processes: int = Field(512, ge=16, le=100_000)
    """Processes and threads that a variant may have at a time; torch alone needs one for each CPU core."""
    open_files: int = Field(4096, ge=64, le=1_000_000)
    """Files that each of its processes may have open."""
    output_mb: float = Field(64.0, ge=0.1)
    """MiB that a variant may print; only the end is kept."""


class Config(Section):
    """A run's whole configuration."""

    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """The run's folder under `storage`; by default the date, as in `nov24`."""
    storage: Path = Path("runs")
    """The local folder that holds the runs; never a URI."""
    program: Path = Path("program.md")
    """The research direction, read by the operators; edits apply to the next birth."""
    seed_model: Path = Path("seed_model")
    """A folder with train.py (the first variant) and prepare.py (fixed). With `metric: reported`, any folder: each
    experiment runs in a copy of its small files, folders that begin with a dot left out."""
    carry_from: str | None = None
    """Another run (a name in `storage`, a folder or a URI) whose population, ideas, noise and operator statistics this
    one begins with, as `run --from RUN` sets it; scores only if the classes agree. Null begins with the seed alone."""
    metric: MetricConfig = MetricConfig()
    evolved_file: str = Field("train.py", min_length=1)
    """`reported` only: the file that is evolved, relative to `seed_model`. Its present text is the first variant."""
    command: str | tuple[str, ...] | None = None
    """`reported` only: what is run in the copy, as a list of words or one line without shell syntax; null is
    `python EVOLVED_FILE`. `python` is the interpreter of this engine, and `python FILE` starts in milliseconds."""
    readable: tuple[Path, ...] = ()
    """Files and folders that a variant may read besides what it needs to run, as `~/.cache/autoresearch` or the folder
    of a package with kernels. They stay where they are, must be there on every node, and with `metric: reported` are
    found under the same name in the home directory that a program sees. Refused are the home directory as a whole and
    where it keeps keys, the runs, the prepared data, and whatever holds text of the corpus, as packages and copies."""
    sandbox: Literal["required", "best_effort", "off"] = "best_effort"
    """The walls around variants. `required` starts nothing on a machine where a promise of docs/trust.md does not hold;
    `best_effort` builds what the machine can and says what is missing; `off` builds none."""
    limits: LimitsConfig = LimitsConfig()
    data: DataConfig = DataConfig()
    llm: LlmConfig = LlmConfig()
    operator: OperatorConfig = OperatorConfig()
    """Who is asked for what needs more than turning numbers: `models` (those of `llm`), `inbox`, or a coding agent, as
    `claude` or `{command: [my-agent, --print]}`."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seeds every random decision. The same seed and the same order of completion give the same births."""

    population_size: int | Literal["auto"] = "auto"
    """Members over all islands. 1 is a greedy hill-climber; many keep diversity and converge later. `auto` chooses from
    the experiments that the budget allows and the slots, near-greedy when they are few."""
    num_islands: int = Field(2, ge=1, le=256)
    """Islands, each held by one Ray actor. More islands mix less."""
    migration_interval: int = Field(20, ge=1)
    """Births between two migrations along the ring of islands."""
    migration_rate: float = Field(0.1, ge=0.0, le=1.0)
    """Fraction of an island that migrates, as copies of its best; 0 never, and at least one member otherwise."""
    tournament_size: int = Field(3, ge=1, le=64)
    """Members drawn for a tournament. 1 is a random choice; larger presses harder towards the best."""
    crossover_probability: float | None = Field(None, ge=0.0, le=1.0)
    """Share of births that have two parents; null adapts it to what crossovers have brought in this run,
    compared with the other operators, for what they cost."""
    pacing: Literal["steady_state", "generational"] = "steady_state"
    """`steady_state` breeds whenever a slot is free; `generational` waits for a whole brood (as many births as the
    population), which idles slots."""
    seed_replicates: int = Field(2, ge=1, le=16)
    """Trainings of the seed under different random seeds, in the slots that would otherwise wait for its first score.
    With 2 or more the seed noise is measured; they count as experiments."""
    max_replicates: int = Field(8, ge=0, le=64)
    """Trainings that a variant may have beside its first, and pairs that a challenge for the title may take. More find
    smaller gains. 0 never trains anything twice: nothing is confirmed, and there is no champion."""
    replicate_share: float = Field(0.125, ge=0.0, le=0.5)
    """Share of experiments that measure known variants again, as replicates or for the title. It adapts: down to none
    while births bring more than certainty, up to a fifth more where they do not. 0 leaves only the end phase, which
    confirms the best out of a reserve: a tenth of `max_experiments`, at least 6, at most twice `max_replicates`."""

    max_experiments: int | None = Field(100, ge=1)
    """Trainings, replicates included; null is no limit."""
    max_births: int | None = Field(None, ge=1)
    """Births, rejected and failed ones included; null is 20 times `max_experiments`."""
    max_hours: float | None = Field(None, gt=0)
    """Hours of wall-clock time; nothing new is started after it, and what trains is finished. Null is no limit."""
    max_cost_usd: float | None = Field(20.0, ge=0)
    """Dollars for language models; null is no limit."""
    target: float | None = None
    """End the run once the best's posterior mean has reached this score; null never."""
    plateau: int | None = Field(None, ge=1)
    """End the run after so many births without a better best; null never."""
    finish_by: str | None = Field(None, pattern=r"^([01]?\d|2[0-3]):[0-5]\d$")
    """A time of day on this machine's clock, as in `08:00`: nothing is begun that would end later. Null is no limit."""
    notify: str | None = Field(None, pattern=r"^https?://")
    """A URL that gets a plain HTTP POST (JSON with `run`, `event`, `text`) at a new best guess, when one is confirmed,
    at a stall, when the language models do not answer any more, and at the end."""

    train_seconds: float = Field(300.0, gt=0, le=86400)
    """Training budget of one experiment, on its own clock: CPU seconds divided by `num_cpus`, or wall-clock seconds on
    a GPU, of which neighbours that share it take their part."""
    startup_seconds: float = Field(300.0, gt=0)
    """Wall-clock allowance from the start to the first batch; compilation belongs here."""
    scoring_seconds: float = Field(300.0, gt=0)
    """Wall-clock allowance from the end of training to the score."""
    num_gpus: float = Field(0.0, ge=0.0, le=1.0)
    """GPUs of one slot. 0 trains on the CPU; 0.25 lets four experiments share a GPU."""
    gpu_model: str | None = None
    """The GPU model to train on, by Ray's name (`H100`, `A100-80G`): scores of another model cannot be compared, so
    nodes with another are left out. Null takes the model that has the most slots when the run starts."""
    num_cpus: float = Field(1, ge=0.01, le=256)
    """CPU cores of one slot; a CPU training may use so many threads, at least one. A fraction gives more slots than
    cores: for programs that mostly wait, since trainings would only slow each other down."""
    max_slots: int | None = Field(None, ge=1)
    """At most so many experiments at a time; null uses all that the cluster has room for."""
    address: str | None = None
    """A Ray cluster to join (`auto` or `host:6379`); null starts Ray on this machine alone."""

    @field_validator("storage", mode="before")
    @classmethod
    def _local(cls, value: Any) -> Any:
        if "://" in str(value):
            raise ValueError(
                "a run is written to a local folder; a copy elsewhere can be read, as in `lineage tree URI`"
            )
        return value

    @field_validator("readable", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Config:
        if isinstance(self.population_size, int) and not 1 <= self.population_size <= 1_000_000:
            raise ValueError(f"population_size is {self.population_size}: must lie between 1 and 1000000, or be 'auto'")
        if self.max_experiments is None and self.max_births is None and self.max_hours is None:
            raise ValueError("the run would never end: set one of max_experiments, max_births, max_hours")
        if 0 < self.num_gpus < 1 and abs(round(1 / self.num_gpus) - 1 / self.num_gpus) > 1e-6:
            raise ValueError(f"num_gpus is {self.num_gpus}: must divide a GPU evenly, as 0.5, 0.25 or 0.125 do")
        if self.operator.kind != "models" and self.llm.models:
            raise ValueError(f"operator is {self.operator.kind!r}: llm.models must be empty then, or operator 'models'")
        self._check_metric()
        return self

    def _check_metric(self) -> None:
        if self.metric.kind == "scored":
            given = (self.metric.name, self.metric.goal, self.evolved_file, self.command)
            names = ("metric.name", "metric.goal", "evolved_file", "command")
            for name, value, only in zip(names, given, ("val_bpb", "minimize", "train.py", None), strict=True):
                if value != only:
                    raise ValueError(f"{name} is {value!r}: it needs a program that reports its score, metric=reported")
            return
        try:
            empty = not self.words
        except ValueError as error:
            raise ValueError(f"command is {self.command!r}: {str(error)[0].lower()}{str(error)[1:]}") from error
        if empty:
            raise ValueError("command is empty: name a program, as in `python train.py`, or leave it out")
        if Path(self.evolved_file).is_absolute() or ".." in Path(self.evolved_file).parts:
            raise ValueError(f"evolved_file is {self.evolved_file!r}: must be a file inside seed_model")

    @property
    def words(self) -> tuple[str, ...]:
        """The command of a program that reports its score, word by word.

        Raises:
            ValueError: a quotation in it has no end.
        """
        if self.command is None:
            return ("python", self.evolved_file)
        return tuple(shlex.split(self.command)) if isinstance(self.command, str) else self.command

    @property
    def language(self) -> bool:
        """Whether there is anybody to ask: a language model, an agent or a person."""
        return bool(self.llm.models) or self.operator.kind != "models"

    @property
    def threads(self) -> int:
        """Threads that a training on the CPU may use."""
        return max(1, int(self.num_cpus))

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """The device that trains: `cuda` when a slot has a share of a GPU."""
        return "cuda" if self.num_gpus > 0 else "cpu"


def load(path: Path | None, overrides: Sequence[str] = (), direct: Mapping[str, Any] | None = None) -> Config:
    """Read a configuration file and apply `key=value` overrides (values are YAML, keys may be dotted).

    Args:
        path: a YAML file; None starts from the defaults.
        overrides: for instance `["population_size=8", "data.tokenizer=byte"]`; later ones win.
        direct: values by key that are taken as they are, not as YAML; they win over all.

    Raises:
        ConfigError: the file is missing or not YAML, a key is unknown (the nearest known one is named), or a value is
            out of its range (the range is named).
    """
    values = _read(path) if path else {}
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set {override}: expected key=value, for instance --set population_size=8")
        _set(values, key.strip().split("."), _parse(text, f"--set {override}"))
    for key, value in (direct or {}).items():
        _set(values, key.split("."), value)
    return validate(values, str(path) if path else "the command line")


def validate(values: dict[str, Any], origin: str) -> Config:
    """Turn plain values into a `Config`; `origin` names where they came from in errors (Raises ConfigError)."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{origin}: {_sentences(error.errors())}.") from error


def dump(config: Config) -> str:
    """Return the resolved configuration as YAML that `load` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def known_keys(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Yield every key there is, dotted; those of a list's items as in `llm.models[].name`."""
    for name, field in section.model_fields.items():
        inner = subsection(field.annotation)
        if inner is not field.annotation:
            yield prefix + name
        if inner:
            yield from known_keys(inner, f"{prefix}{name}{'.' if inner is field.annotation else '[].'}")


def subsection(annotation: Any) -> type[BaseModel] | None:
    """Return the section that a field holds, one or a list of them; None for a plain value."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such configuration file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({why(error)}).") from error
    values = _parse(text, str(path))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, got {type(values).__name__}.")
    return values


class _Loader(yaml.SafeLoader):
    """YAML as people read it (1.2): `08:00` and dates are text, and only true and false are booleans."""


_SCALARS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in (*_SCALARS, "timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), list(_first))


def _parse(text: str, origin: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin}: not valid YAML ({' '.join(str(error).split())}).") from error


def _set(values: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = values.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {'.'.join(keys)}: {key} is a value, not a section.")
        values = inner
    values[keys[-1]] = value


def _sentences(errors: Sequence[ErrorDetails]) -> str:
    """Say each wrong key once; the ways in which a union refused a value are joined by `or`."""
    said: dict[str, list[str]] = {}
    for error in errors:
        key = ".".join(str(part) for part in error["loc"] if isinstance(part, str) and part in _KEY_PARTS)
        if error["type"] == "extra_forbidden":
            key = ".".join(map(str, error["loc"]))
            near = difflib.get_close_matches(key, list(known_keys()), n=1, cutoff=0.0)
            said[f"unknown key {key!r}"] = [f"the nearest known key is {near[0]!r}"]
            continue
        message = error["msg"].removeprefix("Value error, ")
        if not key:  # a check over several keys names them itself
            said.setdefault(message.partition(": ")[0], []).append(message.partition(": ")[2])
            continue
        bounds = _bounds(key)
        message = f"must lie {bounds}" if bounds and "than" in message else message[0].lower() + message[1:]
        said.setdefault(f"{key} is {error['input']!r}", []).append(message.removeprefix("input "))
    return "; ".join(f"{key}: {' or '.join(messages)}" for key, messages in said.items())


def _bounds(key: str) -> str:
    section: type[BaseModel] = Config
    *outer, name = key.split(".")
    for part in outer:
        section = subsection(section.model_fields[part].annotation) or section
    if name not in section.model_fields:
        return ""
    limits = {type(item).__name__: item for item in section.model_fields[name].metadata}
    words = [
        f"{word} {getattr(limits[kind], kind.lower())}"
        for kind, word in (("Ge", "at or above"), ("Gt", "above"), ("Le", "at or below"), ("Lt", "below"))
        if kind in limits
    ]
    if {"Ge", "Le"} <= limits.keys():
        return f"between {limits['Ge'].ge} and {limits['Le'].le}"
    return " and ".join(words)


_KEY_PARTS = {part.removesuffix("[]") for key in known_keys() for part in key.split(".")}
