"""Fixed side of an experiment: prepares data, feeds train.py, scores its model. Never evolved.

Upper half: `python seed_model/prepare.py` tokenizes a corpus and packs it once into rows of T + 1 tokens.
Lower half: what train.py imports. It owns no clock and no targets when a supervisor is at the other end of the channel.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import ctypes
import fcntl
import hashlib
import http.client
import importlib.metadata
import json
import math
import mmap
import os
import re
import shutil
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["DEVICE", "MAX_SEQ_LEN", "SEED", "TIME_BUDGET", "VOCAB_SIZE", "evaluate_bpb", "make_dataloader"]  # noqa: F822
# What train.py imports, also with a star; the constants come from `__getattr__`.

FORMAT = 1
SPLITS = ("train", "val", "holdout")
CHECK = "check"  # rows of the val documents that are never scored: what a supervisor tests a model's honesty on
LEAST_SPARE = 288  # of these rows, where the val rows are not fewer: a quarter of a short val tells too little
FILES = {*(f"{name}.bin" for name in (*SPLITS, CHECK)), "token_bytes.npy", "tokenizer.json", "meta.json"}
SHUFFLE_SEED = 1  # of documents and of the rows that are scored; part of the format

# ---------------------------------------------------------------------------------------------------------------------
# Settings and the folder they name
# ---------------------------------------------------------------------------------------------------------------------


class PrepareError(Exception):
    """Data that cannot be prepared or found; the message is a sentence for the user."""


@dataclass(frozen=True)
class Settings:
    """What is prepared; the fields are those of `data:` in a run's configuration, where they are documented."""

    corpus: str = "python"
    tokenizer: str = "bpe"
    vocab_size: int = 8192
    sequence_length: int = 2048
    val_tokens: int = 10_000_000
    holdout_tokens: int = 10_000_000
    shards: int = 10
    base_url: str = "https://huggingface.co/datasets/karpathy/climbmix-400b-shuffle/resolve/main"

    def check(self) -> None:
        """Raises PrepareError: a value is out of its range."""
        ranges = {
            "vocab_size": (257, 65536),
            "sequence_length": (16, 65536),
            "val_tokens": (1024, 2**40),
            "holdout_tokens": (1024, 2**40),
            "shards": (1, LAST_SHARD),
        }
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise PrepareError(f"{name} is {getattr(self, name)}; it must lie between {low} and {high}.")
        if self.tokenizer not in ("bpe", "byte"):
            raise PrepareError(f"tokenizer is {self.tokenizer!r}; it must be 'bpe' or 'byte'.")
        for name in ("val_tokens", "holdout_tokens"):
            if getattr(self, name) < self.sequence_length:
                raise PrepareError(
                    f"{name} is {getattr(self, name)}; at least one row of {self.sequence_length} is needed."
                )


def cache_folder() -> Path:
    """Return `$AUTORESEARCH_CACHE`, or `~/.cache/autoresearch-ray`."""
    return Path(os.environ.get("AUTORESEARCH_CACHE") or "~/.cache/autoresearch-ray").expanduser()


def resolve(settings: Settings) -> dict[str, Any]:
    """Return only the settings that the rows depend on, with what identifies the corpus.

    Raises:
        PrepareError: a setting is out of range, or the corpus is not there.
    """
    settings.check()
    matter = {k: v for k, v in asdict(settings).items() if k not in ("shards", "base_url", "vocab_size")}
    if settings.tokenizer == "bpe":
        matter["vocab_size"] = settings.vocab_size
    if settings.corpus == "python":
        matter["packages"] = package_versions()
    elif settings.corpus == "climbmix":
        matter |= {"shards": settings.shards, "base_url": settings.base_url.rstrip("/")}
    else:
        root = Path(settings.corpus).expanduser().resolve()
        listing = [[str(f.relative_to(root)), f.stat().st_size, f.stat().st_mtime_ns] for f in list_files(root)]
        matter |= {"corpus": str(root), "files": hashlib.sha256(json.dumps(listing).encode()).hexdigest()}
    return matter


def default_folder(matter: dict[str, Any]) -> Path:
    """Return `<cache>/data/<corpus>-<tokenizer>-<hash of the settings that matter>`."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(matter["corpus"]).name) or "corpus"
    digest = hashlib.sha256(json.dumps([FORMAT, matter], sort_keys=True).encode()).hexdigest()[:8]
    return cache_folder() / "data" / f"{name}-{matter['tokenizer']}-{digest}"


def is_prepared(folder: Path, matter: dict[str, Any]) -> bool:
    """Return whether `folder` holds whole rows made from these settings."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        row_bytes = 2 * (meta["sequence_length"] + 1)
        names = (*SPLITS, CHECK)
        whole = all((folder / f"{name}.bin").stat().st_size == meta["rows"][name] * row_bytes for name in names)
        return whole and meta["format"] == FORMAT and meta["settings"] == matter
    except (OSError, ValueError, KeyError, TypeError):
        return False


def prepare(settings: Settings, folder: Path | None = None) -> tuple[Path, bool]:
    """Make the folder of packed rows, unless it is there; two callers at once make it once.

    Args:
        settings: what to prepare.
        folder: where to; by default a folder of the cache named after the settings.

    Returns:
        The folder, and whether it was made now.

    Raises:
        PrepareError: the corpus is missing, too small or cannot be downloaded, or `folder` holds something else.
    """
    matter = resolve(settings)
    folder = folder.expanduser().resolve() if folder else default_folder(matter)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / f".{folder.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = not is_prepared(folder, matter)
        if made:
            if folder.exists() and not {path.name for path in folder.iterdir()} <= FILES:
                raise PrepareError(f"{folder} holds other files than prepared data; name another folder.")
            partial = folder.parent / f".{folder.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            _fill(partial, settings, matter)
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
    latest = cache_folder() / "data" / "latest"
    latest.parent.mkdir(parents=True, exist_ok=True)
    _write_text(latest, f"{folder}\n")
    return folder, made


def _fill(folder: Path, settings: Settings, matter: dict[str, Any]) -> None:
    """Write everything into an empty folder, meta.json last."""
    documents = open_corpus(settings)
    tokenizer = ByteTokenizer() if settings.tokenizer == "byte" else train_bpe(documents("train"), settings.vocab_size)
    if isinstance(tokenizer, BpeTokenizer):
        _write_text(folder / "tokenizer.json", tokenizer.to_json())
    limits = {"train": None, "val": settings.val_tokens, "holdout": settings.holdout_tokens}
    T, rows = settings.sequence_length, {}
    for split, limit in limits.items():
        spare = folder / f"{CHECK}.bin" if split == "val" else None
        rows[split] = write_rows(folder / f"{split}.bin", documents(split), tokenizer, T, limit, spare)
    rows[CHECK] = (folder / f"{CHECK}.bin").stat().st_size // (2 * (T + 1))
    np.save(folder / "token_bytes.npy", tokenizer.token_bytes)
    digest = hashlib.sha256()
    for name in (*(f"{split}.bin" for split in SPLITS), "token_bytes.npy"):
        with open(folder / name, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    meta = {
        "format": FORMAT,
        "corpus": settings.corpus,
        "tokenizer": settings.tokenizer,
        "vocab_size": tokenizer.vocab_size,
        "sequence_length": T,
        "bos_token": tokenizer.bos,
        "rows": rows,
        "data_hash": digest.hexdigest(),
        "prepare_hash": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
        "settings": matter,
    }
    _write_text(folder / "meta.json", json.dumps(meta, indent=1) + "\n")


def _write_text(path: Path, text: str) -> None:
    """Write the whole file or none of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


class Progress:
    """A bar on stderr; lines, one every tenth, when stderr is not a terminal."""

    def __init__(self, label: str, total: int | None, unit: str = "MB", scale: float = 1e6) -> None:
        self.label, self.total, self.unit, self.scale = label, total, unit, scale
        self.done, self._shown, self._start = 0, -1.0, time.monotonic()
        self._tty = sys.stderr.isatty()

    def add(self, amount: int) -> None:
        """Count `amount` more; draws at most ten times a second."""
        self.done += amount
        share = min(self.done / self.total, 1.0) if self.total else 0.0
        if self._tty and (now := time.monotonic()) - self._shown >= 0.1:
            self._shown = now
            bar = f"|{'█' * round(24 * share):<24}| {share:4.0%} " if self.total else ""
            print(f"\r{self.label:<28} {bar}{self._count()}\x1b[K", end="", file=sys.stderr, flush=True)
        elif not self._tty and self.total and share >= max(self._shown, 0.0) + 0.1 and share < 1.0:
            self._shown = share
            print(f"{self.label}: {share:.0%}", file=sys.stderr, flush=True)

    def end(self, note: str = "") -> None:
        """Draw the last line."""
        seconds = time.monotonic() - self._start
        start = "\r\x1b[K" if self._tty else ""
        print(f"{start}{self.label}: {note or self._count()} in {seconds:.1f} s", file=sys.stderr, flush=True)

    def _count(self) -> str:
        return f"{self.done / self.scale:,.1f} {self.unit}" if self.scale > 1 else f"{self.done:,} {self.unit}"


# ---------------------------------------------------------------------------------------------------------------------
# Corpora: each gives documents(split) -> iterator of texts, in an order that does not depend on the machine
# ---------------------------------------------------------------------------------------------------------------------

Documents = Callable[[str], Iterator[str]]

# Pinned run-time packages that a sandboxed variant has no business reading: not torch, numpy, the standard library or
# torch's own dependencies. No package is in two splits.
PACKAGES = {
    "train": ("botocore", "litellm", "openai", "pyarrow", "ray", "scipy"),
    "val": ("GitPython", "aiohttp", "matplotlib"),
    "holdout": ("fonttools", "huggingface-hub", "pydantic", "rich", "typer"),
}
# Copies of other packages, and files that a build or a code generator wrote (those differ between platforms).
SKIPPED_FOLDERS = {"thirdparty", "thirdparty_files", "third_party", "vendored", "_vendor", "externals", "_generated"}
SKIPPED_FILES = re.compile(r"(^|/)(__config__|_?version|_build_config|.*_pb2|.*_pb2_grpc)\.py$")
LARGEST_FILE = 256 * 1024  # bytes; larger ones are mostly tables

LAST_SHARD = 6542  # of climbmix; scored on, as autoresearch does. The one before it is the holdout.
ATTEMPTS = 6  # a shard, with 1, 2, 4, ... seconds between them
LONG_FILE = 16 * 1024  # characters: a single text file is cut into documents of about so many


def open_corpus(settings: Settings) -> Documents:
    """Return documents(split) for the corpus that the settings name (Raises PrepareError)."""
    if settings.corpus == "python":
        return _python_documents()
    if settings.corpus == "climbmix":
        return _climbmix_documents(settings.shards, settings.base_url.rstrip("/"))
    return _path_documents(Path(settings.corpus).expanduser().resolve())


def package_versions() -> dict[str, str]:
    """Return the version of every package of the corpus `python` (Raises PrepareError: one is not installed)."""
    try:
        names = sorted(name for split in SPLITS for name in PACKAGES[split])
        return {name: importlib.metadata.version(name) for name in names}
    except importlib.metadata.PackageNotFoundError as error:
        raise PrepareError(f"The corpus 'python' needs the package {error.name}: install requirements.txt.") from None


def _python_documents() -> Documents:
    splits: dict[str, list[str]] = {}
    seen: set[bytes] = set()
    for split in reversed(SPLITS):  # what is in holdout or val is not trained on
        keyed = []
        for name in PACKAGES[split]:
            for text in package_sources(name):
                digest = hashlib.sha256(f"{SHUFFLE_SEED}\n{text}".encode()).digest()
                if digest not in seen:
                    seen.add(digest)
                    keyed.append((digest, text))
        splits[split] = [text for _, text in sorted(keyed)]
    return lambda split: iter(splits[split])


def package_sources(name: str) -> Iterator[str]:
    """Yield the Python files that a distribution says it installed; nothing else that lies beside them."""
    files = importlib.metadata.distribution(name).files
    if files is None:
        raise PrepareError(f"The package {name} does not list its files (no RECORD); reinstall it with pip.")
    for file in sorted(files, key=lambda f: f.as_posix()):
        path = file.as_posix()
        if (
            file.suffix != ".py"
            or ".." in file.parts
            or SKIPPED_FOLDERS & set(file.parts)
            or SKIPPED_FILES.search(path)
        ):
            continue
        with contextlib.suppress(UnicodeDecodeError, FileNotFoundError):
            text = Path(str(file.locate())).read_bytes().decode("utf-8").replace("\r\n", "\n")
            if text.strip() and len(text) <= LARGEST_FILE:
                yield text


def list_files(root: Path) -> list[Path]:
    """Return the files of a corpus named by a path: itself, or everything below it that is not hidden."""
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise PrepareError(
            f"data.corpus is {str(root)!r}; it must be 'python', 'climbmix', or a path to text or Parquet."
        )
    found = [
        p for p in root.rglob("*") if p.is_file() and not any(x.startswith(".") for x in p.relative_to(root).parts)
    ]
    return sorted(found, key=lambda p: p.relative_to(root).as_posix())


def _path_documents(root: Path) -> Documents:
    files = list_files(root)

    def texts() -> Iterator[tuple[bytes, str]]:
        for path in files:
            for text in _read_texts(path, single=len(files) == 1):
                yield hashlib.sha256(f"{SHUFFLE_SEED}\n{text}".encode()).digest()[:16], text

    # By rank of the content's hash, so that 20 documents or more give exactly 5 % each to val and holdout.
    digests = sorted({digest for digest, _ in texts()})
    if len(digests) < 3:
        raise PrepareError(
            f"{root} holds {len(digests)} different documents of text; at least 3 are needed to split it."
        )
    share = max(1, len(digests) // 20)
    split_of = {digest: "val" if rank < share else "holdout" for rank, digest in enumerate(digests[: 2 * share])}

    def documents(split: str) -> Iterator[str]:
        seen: set[bytes] = set()
        for digest, text in texts():
            if split_of.get(digest, "train") == split and digest not in seen:
                seen.add(digest)
                yield text

    return documents


def _read_texts(path: Path, single: bool) -> Iterator[str]:
    """Yield the documents of one file; binary files have none."""
    if path.suffix == ".parquet":
        yield from _read_parquet(path)
        return
    with open(path, "rb") as file:
        start = file.read(8192)
        if b"\0" in start:
            return
        content = start + file.read()
    try:
        text = content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return
    if "\0" in text or not text.strip():
        return
    if not single:
        yield text
        return
    size = max(1, min(LONG_FILE, len(text) // 60))
    start = 0
    while start < len(text):  # cut at line ends
        cut = text.find("\n", start + size - 1)
        end = len(text) if cut < 0 else cut + 1
        yield text[start:end]
        start = end


def _read_parquet(path: Path) -> Iterator[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if "text" not in file.schema_arrow.names:
                raise PrepareError(f"{path} has the columns {file.schema_arrow.names}, but none is named 'text'.")
            for batch in file.iter_batches(batch_size=1024, columns=["text"]):
                yield from (text for text in batch.column(0).to_pylist() if text)
    except (pyarrow.ArrowException, OSError) as error:
        raise PrepareError(f"{path} is not a readable Parquet file ({' '.join(str(error).split())[:200]}).") from error


def _climbmix_documents(shards: int, base_url: str) -> Documents:
    folder = cache_folder() / "shards" / hashlib.sha256(base_url.encode()).hexdigest()[:8]
    folder.mkdir(parents=True, exist_ok=True)
    indices = {"val": [LAST_SHARD], "holdout": [LAST_SHARD - 1]}
    indices["train"] = [i for i in range(shards) if i < LAST_SHARD - 1]
    paths = {split: [folder / f"shard_{i:05d}.parquet" for i in indices[split]] for split in SPLITS}
    download_all([path for split in SPLITS for path in paths[split]], base_url)
    return lambda split: (text for path in paths[split] for text in _read_parquet(path))


def download_all(paths: list[Path], base_url: str, pause: float = 1.0) -> None:
    """Fetch the shards that are not there or not whole; four at a time.

    Args:
        paths: where to; the file's name is its name under `base_url`.
        base_url: where from, without a slash at the end.
        pause: seconds before the second attempt; doubles with each.

    Raises:
        PrepareError: a shard could not be fetched whole.
    """
    missing = [path for path in paths if not is_shard(path)]
    if not missing:
        return
    progress = Progress(f"downloading {len(missing)} shards", None)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(download, f"{base_url}/{path.name}", path, progress, pause) for path in missing]
        try:
            for future in futures:
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)
    progress.end()


def download(url: str, path: Path, progress: Progress, pause: float = 1.0) -> None:
    """Fetch one shard into `path`: resumes a partial file, retries, and checks its length and content."""
    partial, reason = path.with_suffix(".part"), ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            _fetch_rest(url, partial, progress)
        except urllib.error.HTTPError as error:
            reason = f"the server answered {error.code} {error.reason}"
            if error.code == 416:  # the partial file is longer than the shard: it is of something else
                partial.unlink(missing_ok=True)
            elif error.code < 500 and error.code not in (408, 429):
                break
        except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
            reason = str(error) or type(error).__name__
        else:
            if is_shard(partial, thorough=True):
                partial.replace(path)
                return
            partial.unlink()
            reason = "what came is not a whole Parquet file with a column 'text'"
    raise PrepareError(f"Could not download {url} after {attempt + 1} attempts: {reason}.")


def _fetch_rest(url: str, partial: Path, progress: Progress) -> None:
    """Append to `partial` until it is as long as the server says; raises OSError when the connection ends early."""
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"User-Agent": "autoresearch-ray"} | ({"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as response:
        resumed = response.status == 206
        if resumed:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if not span or int(span[1]) != have:
                partial.unlink()
                raise OSError(f"the server resumed at the wrong place ({response.headers.get('Content-Range')})")
            total = int(span[2])
        else:  # the server ignores Range: the whole file comes again
            total = int(response.headers.get("Content-Length") or -1)
        with open(partial, "ab" if resumed else "wb") as file:
            while block := response.read(1 << 18):
                file.write(block)
                progress.add(len(block))
            size = file.tell()
    if total >= 0 and size != total:
        raise OSError(f"the connection ended after {size} of {total} bytes")


def is_shard(path: Path, thorough: bool = False) -> bool:
    """Return whether the file is Parquet with a column `text`: by its footer, or `thorough` by reading it all."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path, page_checksum_verification=thorough) as file:
            if "text" not in file.schema_arrow.names:
                return False
            for _ in file.iter_batches(columns=["text"]) if thorough else ():
                pass
            return True
    except (pyarrow.ArrowException, OSError):
        return False


# ---------------------------------------------------------------------------------------------------------------------
# Tokenizers
# ---------------------------------------------------------------------------------------------------------------------

BOS = "<|bos|>"
# GPT-4's pattern, with numbers cut into at most two digits: a small vocabulary has better uses for its tokens.
SPLIT_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
TRAINING_CHARACTERS = 100_000_000  # of the training documents, at most so many teach the vocabulary


class Tokenizer(Protocol):
    """Turns texts into tokens; `token_bytes` (vocab_size,) int32 is 0 for special tokens."""

    vocab_size: int
    bos: int
    token_bytes: np.ndarray

    def encode(self, texts: list[str]) -> Iterable[np.ndarray]:
        """Return the tokens (n,) uint16 of each text, without BOS."""
        ...


class ByteTokenizer:
    """One token a UTF-8 byte, and BOS: a vocabulary of 257."""

    vocab_size = 257
    bos = 256
    token_bytes = np.array([1] * 256 + [0], dtype=np.int32)

    def encode(self, texts: list[str]) -> Iterable[np.ndarray]:
        """Return the tokens (n,) uint16 of each text, without BOS."""
        return (np.frombuffer(text.encode(), dtype=np.uint8).astype(np.uint16) for text in texts)


class BpeTokenizer:
    """Byte-pair encoding through tiktoken; BOS is the last token."""

    def __init__(self, pattern: str, ranks: dict[bytes, int]) -> None:
        import tiktoken

        self.pattern, self.ranks, self.bos = pattern, ranks, len(ranks)
        self.vocab_size = len(ranks) + 1
        self.encoding = tiktoken.Encoding(
            name="autoresearch", pat_str=pattern, mergeable_ranks=ranks, special_tokens={BOS: self.bos}
        )
        self.token_bytes = np.zeros(self.vocab_size, dtype=np.int32)
        for token, rank in ranks.items():
            self.token_bytes[rank] = len(token)

    def encode(self, texts: list[str]) -> Iterable[np.ndarray]:
        """Return the tokens (n,) uint16 of each text, without BOS."""
        encoded = self.encoding.encode_ordinary_batch(texts, num_threads=os.cpu_count() or 1)
        return (np.array(tokens, dtype=np.uint16) for tokens in encoded)

    def to_json(self) -> str:
        """Return what `from_json` reads back: the pattern, the ranks (base64, in order of rank) and special tokens."""
        ranks = [base64.b64encode(token).decode() for token in sorted(self.ranks, key=self.ranks.__getitem__)]
        return json.dumps({"pattern": self.pattern, "ranks": ranks, "special_tokens": {BOS: self.bos}})

    @classmethod
    def from_json(cls, text: str) -> BpeTokenizer:
        """Return the tokenizer that `to_json` wrote."""
        stored = json.loads(text)
        return cls(stored["pattern"], {base64.b64decode(token): rank for rank, token in enumerate(stored["ranks"])})


def train_bpe(texts: Iterator[str], vocab_size: int) -> BpeTokenizer:
    """Train a vocabulary of `vocab_size` tokens, BOS included (Raises PrepareError: too little text for so many)."""
    import rustbpe

    progress = Progress("training the tokenizer", TRAINING_CHARACTERS, unit="M characters")

    def some() -> Iterator[str]:
        for text in texts:
            text = text[: TRAINING_CHARACTERS - progress.done]
            progress.add(len(text))
            yield text
            if progress.done >= TRAINING_CHARACTERS:
                return

    trainer = rustbpe.Tokenizer()
    trainer.train_from_iterator(some(), vocab_size - 1, pattern=SPLIT_PATTERN)
    tokenizer = BpeTokenizer(SPLIT_PATTERN, {bytes(token): rank for token, rank in trainer.get_mergeable_ranks()})
    progress.end()
    if tokenizer.vocab_size != vocab_size:
        raise PrepareError(f"The training text gives only {tokenizer.vocab_size} tokens; lower vocab_size to that.")
    return tokenizer


# ---------------------------------------------------------------------------------------------------------------------
# Packing
# ---------------------------------------------------------------------------------------------------------------------

BUFFERED_PIECES = 1000  # that compete for the room left in a row
POOL_TOKENS = 1 << 24  # val and holdout rows are drawn at random from at least so many tokens, if there are


class Packer:
    """Packs documents into rows of T + 1 tokens without padding: best fit first, every row starts with BOS.

    A document longer than a row is cut into pieces that each get a BOS; when nothing fits into the room left, the
    shortest piece is cut and its rest goes back. Nothing is lost but the last, incomplete row.
    """

    def __init__(self, T: int, bos: int) -> None:
        self.T, self.bos = T, bos
        self._of_length: list[list[np.ndarray]] = [[] for _ in range(T + 2)]
        self._lengths = 0  # bit n is set when there is a piece of n tokens
        self._count = self._tokens = 0  # pieces, and tokens in them

    def add(self, tokens: np.ndarray) -> Iterator[np.ndarray]:
        """Take the tokens (n,) of one document; yields blocks (rows, T + 1) as they get full."""
        full = len(tokens) // self.T
        if full:
            block = np.empty((full, self.T + 1), dtype=np.uint16)
            block[:, 0] = self.bos
            block[:, 1:] = tokens[: full * self.T].reshape(full, self.T)
            yield block
        if len(tokens) % self.T:
            self._push(np.concatenate([np.array([self.bos], np.uint16), tokens[full * self.T :]]))
        while self._count >= BUFFERED_PIECES and self._tokens > self.T:
            yield self._row()

    def flush(self) -> Iterator[np.ndarray]:
        """Yield what can still be packed; the last row, if it does not get full, is dropped."""
        while self._tokens > self.T:
            yield self._row()

    def _row(self) -> np.ndarray:
        parts, room = [], self.T + 1
        while room:
            fitting = self._lengths & ((1 << (room + 1)) - 1)
            if fitting:
                piece = self._pop(fitting.bit_length() - 1)
            else:
                piece = self._pop((self._lengths & -self._lengths).bit_length() - 1)
                # With room for BOS alone the whole piece goes back.
                self._push(np.concatenate([piece[:1], piece[room:]]))
                piece = piece[:room]
            parts.append(piece)
            room -= len(piece)
        return np.concatenate(parts)[None]

    def _push(self, piece: np.ndarray) -> None:
        self._of_length[len(piece)].append(piece)
        self._lengths |= 1 << len(piece)
        self._count += 1
        self._tokens += len(piece)

    def _pop(self, length: int) -> np.ndarray:
        piece = self._of_length[length].pop()
        if not self._of_length[length]:
            self._lengths ^= 1 << length
        self._count -= 1
        self._tokens -= length
        return piece


def pack(texts: Iterator[str], tokenizer: Tokenizer, T: int, progress: Progress) -> Iterator[np.ndarray]:
    """Yield blocks (rows, T + 1) uint16 of the packed texts."""
    packer = Packer(T, tokenizer.bos)
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        progress.add(len(text))
        if len(batch) == 256:
            for tokens in tokenizer.encode(batch):
                yield from packer.add(tokens)
            batch = []
    for tokens in tokenizer.encode(batch):
        yield from packer.add(tokens)
    yield from packer.flush()


def write_rows(
    path: Path, texts: Iterator[str], tokenizer: Tokenizer, T: int, limit: int | None, spare: Path | None = None
) -> int:
    """Pack the texts into a file of rows (rows, T + 1) uint16.

    Args:
        path: the file.
        texts: the documents of one split.
        tokenizer: what turns them into tokens.
        T: tokens a row is trained on.
        limit: keep so many tokens at most, as rows drawn at random over all documents; None keeps all.
        spare: with a limit, a file for other rows of the same documents, a quarter as many, and as many where they
            are few. Where there is no text beyond the limit they are taken from the rows; a single row serves as both.

    Returns:
        The number of rows in `path`.

    Raises:
        PrepareError: there is not enough text for one row.
    """
    progress = Progress(f"packing {path.stem}", None, unit="M characters")
    rows, pool = 0, []
    with open(path, "wb") as file:
        for block in pack(texts, tokenizer, T, progress):
            rows += len(block)
            if limit is None:
                file.write(block.tobytes())
            else:
                pool.append(block)
                if rows * T >= max(POOL_TOKENS, 2 * limit):
                    break
        if pool and limit is not None:
            packed = np.concatenate(pool)
            rows = min(rows, limit // T)
            if spare:
                rows = max(1, min(rows, len(packed) * 4 // 5))
            rng = np.random.default_rng(SHUFFLE_SEED)
            chosen = rng.choice(len(packed), size=rows, replace=False)
            file.write(packed[np.sort(chosen)].tobytes())
            if spare:
                others = np.setdiff1d(np.arange(len(packed)), chosen) if len(packed) > 1 else chosen
                kept = rng.permutation(others)[: max(rows // 4, min(rows, LEAST_SPARE))]
                spare.write_bytes(packed[np.sort(kept)].tobytes())
    progress.end(f"{rows:,} rows of {T} tokens from {progress.done / 1e6:,.1f} M characters")
    if not rows:
        raise PrepareError(f"There is not enough {path.stem} text for a single row of {T} tokens.")
    return rows


# ---------------------------------------------------------------------------------------------------------------------
# What train.py imports: MAX_SEQ_LEN, TIME_BUDGET, VOCAB_SIZE, SEED, DEVICE, make_dataloader, evaluate_bpb
# ---------------------------------------------------------------------------------------------------------------------

LONGEST_MESSAGE = 65_536  # bytes
SCORED_LOGITS = {"cpu": 1 << 24, "cuda": 1 << 29}  # numbers in one batch of logits, standalone


Batch = tuple[np.ndarray | None, float]
"""Tokens (B, T + 1), None at the end, and the progress in [0, 1]."""


class Channel:
    """The client's end of a supervisor's channel: one JSON object a line, each answered by exactly one.

    Tokens come and logits go through shared memory. The supervisor owns the clock, the data and the score.
    """

    def __init__(self, descriptor: int) -> None:
        import torch

        self._socket = socket.socket(fileno=os.dup(descriptor))
        self._reader = self._socket.makefile("rb")
        self.hello = self.ask({"op": "hello"})
        self._tickets = 0
        self._unread: dict[int, tuple[int, int]] = {}
        self._kept: dict[int, Batch] = {}
        data = mmap.mmap(self.hello["data_fd"], self.hello["data_bytes"], access=mmap.ACCESS_READ)
        self._data = np.frombuffer(data, dtype=np.uint16)
        if self.hello["device"] == "cpu":
            torch.set_num_threads(self.hello["threads"])

    def send(self, message: dict[str, Any]) -> None:
        """Send without waiting for the answer."""
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        """Return the next answer; raises RuntimeError when it is an error or the supervisor is gone."""
        line = self._reader.readline(LONGEST_MESSAGE)
        if not line.endswith(b"\n"):
            raise RuntimeError("the supervisor closed the channel")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"the supervisor refused: {answer['error']}")
        return answer

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send and wait for the answer."""
        self.send(message)
        return self.receive()

    def request_batch(self, B: int, T: int, loss: float | None) -> int:
        """Ask for B x (T + 1) tokens and return a ticket; the clock starts at the first request."""
        self.send({"op": "batch", "batch": B, "length": T, "loss": loss})
        self._tickets += 1
        self._unread[self._tickets] = (B, T)
        return self._tickets

    def take_batch(self, ticket: int) -> Batch:
        """Return the tokens (a view that the next but one request overwrites), None at the end, and the progress.

        Answers come in the order of the requests. One that another loader asked for is copied and kept for it.
        """
        while ticket not in self._kept:
            first = next(iter(self._unread))
            tokens, progress = self._read_batch(*self._unread.pop(first))
            if first == ticket:
                return tokens, progress
            self._kept[first] = (None if tokens is None else tokens.copy(), progress)
        return self._kept.pop(ticket)

    def _read_batch(self, B: int, T: int) -> Batch:
        answer = self.receive()
        if answer.get("end"):
            return None, 1.0
        start = answer["offset"] // 2
        return self._data[start : start + B * (T + 1)].reshape(B, T + 1), float(answer["progress"])

    def _open_logits(self) -> torch.Tensor:
        """Return the bytes that logits are written to: memory that the supervisor has allocated, on a GPU there."""
        import torch

        descriptor, size = self.hello["logits_fd"], self.hello["logits_bytes"]
        if self.hello["device"] == "cuda":
            return torch.as_tensor(DeviceMemory(descriptor, size), device="cuda")
        return torch.frombuffer(mmap.mmap(descriptor, size), dtype=torch.uint8)

    def evaluate(self, forward: Callable[[np.ndarray], torch.Tensor], parameters: int) -> float:
        """Answer rows with logits until the supervisor knows the score."""
        import torch

        while self._unread:  # asked ahead by loaders that were left before their end
            self._read_batch(*self._unread.pop(next(iter(self._unread))))
        device = self.hello["device"]
        memory = self._open_logits()
        peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
        dtype = _logits_dtype(device)
        name = str(dtype).removeprefix("torch.")
        message = {"op": "evaluate", "parameters": parameters, "peak_memory_bytes": peak, "dtype": name}
        while "val_bpb" not in (answer := self.ask(message)):
            n, T, start = answer["rows"], answer["length"], answer["offset"] // 2
            logits = forward(self._data[start : start + n * T].reshape(n, T))
            size = logits.numel() * dtype.itemsize
            target = memory[answer["logits_offset"] : answer["logits_offset"] + size]
            target.view(dtype).view(logits.shape).copy_(logits)
            if device == "cuda":
                torch.cuda.synchronize()
            message = {"op": "logits"}
        return float(answer["val_bpb"])


class DeviceMemory:
    """Memory of the GPU that another process has allocated and exported as a descriptor, mapped here."""

    def __init__(self, descriptor: int, size: int) -> None:
        import torch

        torch.zeros(1, device="cuda")  # starts CUDA in this process
        driver = ctypes.CDLL("libcuda.so.1")
        here = (ctypes.c_int * 2)(1, torch.cuda.current_device())  # CUmemLocation: a device, and which
        access = (ctypes.c_int * 3)(*here, 3)  # CUmemAccessDesc: read and write
        handle, address = ctypes.c_uint64(), ctypes.c_uint64()
        length, zero = ctypes.c_size_t(size), ctypes.c_ulonglong(0)
        imported = (ctypes.byref(handle), ctypes.c_void_p(descriptor), ctypes.c_int(1))
        calls: tuple[tuple[str, tuple[Any, ...]], ...] = (
            ("cuMemImportFromShareableHandle", imported),
            ("cuMemAddressReserve", (ctypes.byref(address), length, ctypes.c_size_t(0), ctypes.c_uint64(0), zero)),
            ("cuMemMap", (address, length, ctypes.c_size_t(0), handle, zero)),
            ("cuMemSetAccess", (address, length, ctypes.byref(access), ctypes.c_size_t(1))),
        )
        for name, arguments in calls:
            if code := getattr(driver, name)(*arguments):
                raise RuntimeError(f"the supervisor's memory for logits cannot be mapped: {name} failed with {code}")
        # What torch.as_tensor takes an address from.
        self.__cuda_array_interface__ = {
            "shape": (size,),
            "typestr": "|u1",
            "data": (address.value, False),
            "version": 3,
        }


class Standalone:
    """Stands in for the supervisor when there is none: the same meaning of the messages, the rows of a folder.

    Its clock is the supervisor's too: CPU seconds divided by threads on a CPU, so that busy neighbours do not count,
    and wall-clock seconds on a GPU.
    """

    def __init__(self, folder: Path) -> None:
        import torch

        self._folder = folder
        self._meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        self.hello = {
            "sequence_length": self._meta["sequence_length"],
            "vocab_size": self._meta["vocab_size"],
            "seed": int(os.environ.get("AUTORESEARCH_SEED", "42")),
            "device": os.environ.get("AUTORESEARCH_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu"),
            "train_seconds": float(os.environ.get("AUTORESEARCH_TRAIN_SECONDS", "300")),
        }
        self._threads = torch.get_num_threads() if self.hello["device"] == "cpu" else 0
        self._train = self._rows("train")
        self._order = np.random.default_rng(self.hello["seed"])
        self._left = np.empty(0, dtype=np.int64)  # rows not yet drawn in this pass
        self._pass = -1
        self._start: float | None = None

    def _rows(self, split: str) -> np.ndarray:
        shape = (self._meta["rows"][split], self._meta["sequence_length"] + 1)
        return np.memmap(self._folder / f"{split}.bin", dtype=np.uint16, mode="r", shape=shape)

    def request_batch(self, B: int, T: int, loss: float | None) -> Batch:
        """Draw B x (T + 1) tokens; the clock starts at the first request."""
        if not 1 <= T <= self.hello["sequence_length"] or B < 1:
            raise RuntimeError(f"a batch of {B} x {T} is impossible: T is at most {self.hello['sequence_length']}")
        now = time.monotonic() if self._threads == 0 else time.process_time() / self._threads
        self._start = now if self._start is None else self._start
        progress = (now - self._start) / self.hello["train_seconds"]
        return (self._draw(B, T), progress) if progress < 1.0 else (None, 1.0)

    def take_batch(self, ticket: Batch) -> Batch:
        """Return what was drawn."""
        return ticket

    def _draw(self, B: int, T: int) -> np.ndarray:
        """Return (B, T + 1) tokens of rows in random order; every pass shows another window of length T of each row."""
        drawn = []
        while B:
            if not len(self._left):
                self._left = self._order.permutation(len(self._train))
                self._pass += 1
            chosen, self._left = self._left[:B], self._left[B:]
            starts = (chosen + self._pass) % (self.hello["sequence_length"] // T) * T
            drawn.append(self._train[chosen[:, None], starts[:, None] + np.arange(T + 1)])
            B -= len(chosen)
        return np.concatenate(drawn)

    def evaluate(self, forward: Callable[[np.ndarray], torch.Tensor], parameters: int) -> float:
        """Return the bits per byte over the val rows."""
        import torch

        rows, T, V = self._rows("val"), self.hello["sequence_length"], self.hello["vocab_size"]
        token_bytes = torch.from_numpy(np.load(self._folder / "token_bytes.npy"))
        dtype = _logits_dtype(self.hello["device"])
        nats, total_bytes = 0.0, 0
        batch = max(1, SCORED_LOGITS[self.hello["device"]] // (T * V))
        for i in range(0, len(rows), batch):
            tokens = rows[i : i + batch]
            targets = torch.from_numpy(tokens[:, 1:].astype(np.int64)).reshape(-1)
            logits = forward(tokens[:, :-1]).to(dtype).reshape(-1, V)
            counted = token_bytes[targets]
            for some, wanted, weight in zip(
                logits.split(1 << 13), targets.split(1 << 13), (counted > 0).split(1 << 13), strict=True
            ):
                loss = torch.nn.functional.cross_entropy(some.float(), wanted.to(some.device), reduction="none")
                nats += float((loss.double() * weight.to(some.device)).sum())
            total_bytes += int(counted.sum())
        if not math.isfinite(nats):
            raise RuntimeError("non-finite logits")
        return nats / (math.log(2) * total_bytes)


def _logits_dtype(device: str) -> torch.dtype:
    """Return the type in which logits are scored, by a supervisor and without one."""
    import torch

    return torch.bfloat16 if device == "cuda" else torch.float32


def prepared_folder() -> Path:
    """Return `$AUTORESEARCH_DATA`, or the folder prepared last (Raises PrepareError: there is none)."""
    named = os.environ.get("AUTORESEARCH_DATA")
    latest = cache_folder() / "data" / "latest"
    if not named and latest.exists():
        named = latest.read_text(encoding="utf-8").strip()
    if not named or not (Path(named) / "meta.json").exists():
        raise PrepareError(
            f"No prepared data{f' in {named}' if named else ''}: run `python seed_model/prepare.py` first."
        )
    return Path(named)


_source: Channel | Standalone | None = None


def _connect() -> Channel | Standalone:
    """Return the one source of data and score of this process."""
    global _source
    if _source is None:
        descriptor = os.environ.get("AUTORESEARCH_CHANNEL")
        _source = Channel(int(descriptor)) if descriptor else Standalone(prepared_folder())
        if _source.hello["device"] == "cpu":
            _keep_freed_memory()
    return _source


def _keep_freed_memory() -> None:
    """Tell glibc to keep what is freed: else a third of a small model's CPU time goes into page faults."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
        libc.mallopt(-3, 1 << 25)  # M_MMAP_THRESHOLD: the largest that is allowed


def __getattr__(name: str) -> Any:
    """Give the constants, on first use: preparing needs neither a supervisor nor prepared data."""
    keys = {
        "MAX_SEQ_LEN": "sequence_length",  # T of a row, in tokens; the model is scored on whole rows
        "TIME_BUDGET": "train_seconds",
        "VOCAB_SIZE": "vocab_size",
        "SEED": "seed",
        "DEVICE": "device",  # "cpu" or "cuda"
    }
    if name not in keys:
        raise AttributeError(f"module 'prepare' has no attribute {name!r}")
    return _connect().hello[keys[name]]


class DataLoader:
    """Iterator of (inputs, targets), LongTensors (B, T) on the device; ends by itself when the budget is spent.

    `progress` in [0, 1] is for schedules. One batch is always asked for ahead, so that the loop never waits.
    """

    def __init__(self, B: int, T: int) -> None:
        self.B, self.T = B, T
        self.progress = 0.0
        self._loss: float | None = None
        self._ticket: Any = None
        self._ended = False

    def report(self, loss: float) -> None:
        """Say what the training loss is (nats a token): the experiment's curve, not its score; not finite ends it."""
        self._loss = float(loss)

    def _request(self) -> None:
        self._ticket = _connect().request_batch(self.B, self.T, self._loss)
        self._loss = None

    def __iter__(self) -> DataLoader:
        return self

    def __next__(self) -> tuple[torch.Tensor, torch.Tensor]:
        if self._ended:
            raise StopIteration
        if self._ticket is None:
            self._request()
        tokens, self.progress = _connect().take_batch(self._ticket)
        if tokens is None:
            self._ended = True
            raise StopIteration
        self._request()
        batch = _to_device(tokens)
        return batch[:, :-1].contiguous(), batch[:, 1:].contiguous()


def _to_device(tokens: np.ndarray) -> torch.Tensor:
    """Return the tokens as a LongTensor on the device; the copy to a GPU runs beside the computation."""
    import torch

    device = _connect().hello["device"]
    if device == "cpu":
        return torch.from_numpy(tokens.astype(np.int64))
    # int16 is a quarter of what int64 would send; the mask undoes its sign. The pinned block is reused after the copy.
    pinned = torch.from_numpy(np.array(tokens, order="C").view(np.int16)).pin_memory()
    return pinned.to(device, non_blocking=True).long() & 0xFFFF


def make_dataloader(B: int, T: int) -> DataLoader:
    """Return the training batches: B rows of T tokens, T at most MAX_SEQ_LEN. The clock starts with the first one."""
    return DataLoader(B, T)


def evaluate_bpb(model: torch.nn.Module) -> float:
    """Return the validation bits per byte of `model(x)`: LongTensor (B, T) -> logits (B, T, VOCAB_SIZE).

    Sum of nats over the target tokens / (ln 2 x sum of their bytes); special tokens count in neither. Under a
    supervisor this process only answers with logits: it has no targets and computes no score. Call it once, at the end.
    """
    import torch

    source = _connect()
    parameters = sum(p.numel() for p in model.parameters())
    model.eval()

    def forward(rows: np.ndarray) -> torch.Tensor:
        logits: torch.Tensor = model(_to_device(rows))
        wanted = (*rows.shape, source.hello["vocab_size"])
        if tuple(logits.shape) != wanted:
            raise RuntimeError(f"model(x) gave logits of shape {tuple(logits.shape)}; expected {wanted}")
        return logits

    with torch.no_grad():
        return source.evaluate(forward, parameters)


# ---------------------------------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Prepare what the arguments say; returns the exit code (2: a sentence on stderr says what is wrong)."""
    parser = argparse.ArgumentParser(description="Tokenize a corpus and pack it into rows for train.py; once.")
    for field, default in asdict(Settings()).items():
        flag = f"--{field.replace('_', '-')}"
        parser.add_argument(flag, type=type(default), default=default, help=f"default: {default}")
    parser.add_argument(
        "--out", "--directory", type=Path, help="default: a folder of the cache named after the settings"
    )
    parser.add_argument("--locate", action="store_true", help="only say where the rows lie or would lie")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    options = vars(parser.parse_args(arguments))
    out, locate, as_json = options.pop("out"), options.pop("locate"), options.pop("json")
    try:
        settings = Settings(**options)
        matter = resolve(settings)
        folder = out.expanduser().resolve() if out else default_folder(matter)
        made = False
        if not locate:
            folder, made = prepare(settings, out)
    except (PrepareError, OSError) as error:  # OSError: a full disk, a folder that cannot be written
        if as_json:
            print(json.dumps({"error": str(error)}))
        else:
            print(f"error: {error}", file=sys.stderr)
        return 2
    prepared = is_prepared(folder, matter)
    if as_json:
        print(json.dumps({"folder": str(folder), "prepared": prepared, "made": made}))
    elif locate:
        print(f"{folder} ({'prepared' if prepared else 'not prepared'})")
    else:
        print(f"{'Prepared' if made else 'Already prepared, nothing to do'}: {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
