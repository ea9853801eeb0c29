from __future__ import annotations

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

import pytest

from autoresearch_ray.operators import transcripts
from autoresearch_ray.operators.request import Message
from autoresearch_ray.operators.transcripts import Exchange, Transcripts
from autoresearch_ray.variant import Birth, Operator, Usage

ASKED = (Message("system", "You are."), Message("user", "Ændern Sie train.py, bitte: 𝛼\n"))


def exchange(number: int, reply: str | None = "HYPOTHESIS: h\n", failure: str = "") -> Exchange:
    return Exchange(
        variant_id=f"{number:012x}",
        number=number,
        purpose="mutation",
        asked_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        seconds=1.5,
        model="openai/test",
        messages=ASKED,
        prompt_hash="f" * 64,
        reply=reply,
        failure=failure,
        attempts=("the provider failed",),
        usage=Usage(10, 2, 0.5),
    )


def birth(number: int) -> Birth:
    return Birth(number, f"{number:012x}", 0, Operator.MUTATION, 1)


def test_what_was_kept_is_read_back(tmp_path: Path) -> None:
    kept = [exchange(7), exchange(8), exchange(7, None, "nobody answers"), exchange(123)]
    writer = Transcripts(tmp_path)
    for each in kept:
        writer.keep(each)
    assert transcripts.of_variant(tmp_path, birth(7)) == [kept[0], kept[2]]
    assert transcripts.of_variant(tmp_path, birth(9)) == []
    assert transcripts.of_variant(tmp_path, birth(5000)) == []
    assert list(transcripts.everything(tmp_path)) == kept
    assert len(list((tmp_path / "logs" / "llm").iterdir())) == 2


def test_another_variant_of_the_same_number_is_not_taken_for_it(tmp_path: Path) -> None:
    Transcripts(tmp_path).keep(exchange(7))
    assert transcripts.of_variant(tmp_path, Birth(7, "another run", 0, Operator.MUTATION, 1)) == []


def test_the_files_are_plain_compressed_json_lines(tmp_path: Path) -> None:
    writer = Transcripts(tmp_path)
    writer.keep(exchange(1))
    writer.keep(exchange(2))
    (path,) = (tmp_path / "logs" / "llm").iterdir()
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    assert [json.loads(line)["number"] for line in lines] == [1, 2]


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_kill_in_the_middle_costs_the_last_exchange_only(tmp_path: Path, cut: int) -> None:
    writer = Transcripts(tmp_path)
    writer.keep(exchange(1))
    writer.keep(exchange(2))
    (path,) = (tmp_path / "logs" / "llm").iterdir()
    path.write_bytes(path.read_bytes()[:-cut])
    assert list(transcripts.everything(tmp_path)) == [exchange(1)]
    Transcripts(tmp_path).keep(exchange(3))
    assert list(transcripts.everything(tmp_path)) == [exchange(1), exchange(3)]


def test_secrets_are_taken_out_before_anything_is_written(tmp_path: Path) -> None:
    Transcripts(tmp_path, lambda text: text.replace("hush", "[key]")).keep(exchange(1, "hush", "hush"))
    (path,) = (tmp_path / "logs" / "llm").iterdir()
    assert b"hush" not in gzip.decompress(path.read_bytes())
    assert transcripts.of_variant(tmp_path, birth(1))[0].reply == "[key]"


def test_several_threads_write_whole_exchanges(tmp_path: Path) -> None:
    writer = Transcripts(tmp_path)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(writer.keep, [exchange(number) for number in range(160)]))
    assert sorted(each.number for each in transcripts.everything(tmp_path)) == list(range(160))


def test_a_text_that_no_file_can_hold_and_a_full_disk_end_nothing(tmp_path: Path) -> None:
    Transcripts(tmp_path).keep(exchange(1, "a lone \ud800 surrogate"))
    assert transcripts.of_variant(tmp_path, birth(1))[0].reply == "a lone ? surrogate"
    (tmp_path / "file").write_text("")
    Transcripts(tmp_path / "file").keep(exchange(1))
    assert list(transcripts.everything(tmp_path / "file")) == []


def test_as_a_person_reads_it() -> None:
    assert exchange(1).text == (
        "--- system ---\nYou are.\n\n--- user ---\nÆndern Sie train.py, bitte: 𝛼\n\n"
        "--- openai/test answers ---\n(failed: the provider failed)\nHYPOTHESIS: h\n"
    )
    assert exchange(1, None, "nobody answers").text.endswith("(no reply: nobody answers)\n")
