import json
import re
from pathlib import Path

import pyarrow as pa
import pytest
import synthetic

from autoresearch_ray.errors import UsageError
from autoresearch_ray.explore import sql
from autoresearch_ray.lineage.query import Lineage
from autoresearch_ray.lineage.sealing import Sealing
from autoresearch_ray.lineage.store import LineageStore

DOCUMENT = Path(__file__).parents[2] / "docs" / "lineage.md"
QUESTIONS = re.findall(r"```sql\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_there_are_ten_documented_questions() -> None:
    assert len(QUESTIONS) == 10


@pytest.mark.parametrize("question", QUESTIONS, ids=[question.split("\n")[0][:40] for question in QUESTIONS])
def test_every_documented_question_is_answered(run: Path, question: str) -> None:
    answer = sql.ask(run, question)
    assert answer.columns
    assert answer.damage == ()


def test_scores_agree_with_the_other_views(run: Path, lineage: Lineage) -> None:
    for row in sql.values(sql.ask(run, "SELECT * FROM scores")):
        score = lineage.score(lineage.find(row["variant_id"]))
        assert score is not None
        assert score.mean == pytest.approx(row["val_bpb"])
        assert score.count == row["trainings"]
        assert score.error == pytest.approx(row["standard_error"])


def test_the_steps_to_a_champion_are_those_of_its_path(run: Path, lineage: Lineage) -> None:
    [question] = [text for text in QUESTIONS if "AS steps" in text]
    [row] = sql.values(sql.ask(run, question))
    assert lineage.champion is not None
    assert row["variant_id"] == lineage.ids[lineage.champion]
    assert row["steps"] >= len(lineage.path(lineage.champion)) - 1 > 0


def test_gain_per_dollar_counts_what_beat_the_better_parent(run: Path, lineage: Lineage) -> None:
    [question] = [text for text in QUESTIONS if "gain_per_usd" in text]
    [row] = sql.values(sql.ask(run, question))
    asked = [place for place, model in enumerate(lineage.column("model")) if model]
    gains = [lineage.gain(place, int(lineage.primary[place])) for place in asked if lineage.counts[place]]
    usd = sum(lineage.column("llm_usd")[place] for place in asked)
    assert row["gain_per_usd"] == pytest.approx(sum(max(gain or 0.0, 0.0) for gain in gains) / usd)


def test_rows_that_are_not_sealed_yet_and_bulky_columns_are_there(tmp_path: Path) -> None:
    evolution = synthetic.Evolution(run="live")
    with LineageStore.create(tmp_path / "live", "live", sealing=Sealing(rows=40)) as store:
        evolution.record(store, 60)
        [[births, longest]] = sql.ask(tmp_path / "live", "SELECT count(*), max(length(source)) FROM variants").rows
        assert births == 60
        assert longest > 100


@pytest.mark.parametrize(
    "query",
    [
        "COPY variants TO '{out}'",
        "COPY (SELECT 1) TO '{out}'",
        "CREATE TABLE x AS SELECT 1",
        "DROP VIEW scores",
        "INSERT INTO variants SELECT * FROM variants",
        "ATTACH '{out}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "PRAGMA database_list",
        "EXPORT DATABASE '{out}'",
        "CALL pragma_version()",
        "SELECT 1; DROP VIEW scores",
        "",
        "-- nothing",
        "SELEC 1",
        "SELECT * FROM nowhere",
        "SELECT no_such_column FROM variants",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_parquet('https://example.com/x.parquet')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM query('COPY variants TO ''{out}''')",
    ],
)
def test_writing_and_reaching_out_is_refused_with_a_sentence(run: Path, tmp_path: Path, query: str) -> None:
    with pytest.raises(UsageError) as refused:
        sql.ask(run, query.format(out=tmp_path / "out"))
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_variables_of_the_program_cannot_be_read(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "secret", pa.table({"key": ["sk-1"]}), raising=False)
    with pytest.raises(UsageError, match="secret"):
        sql.ask(run, "SELECT * FROM secret")


def test_a_damaged_page_is_named_and_the_rest_is_asked(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path / "run", 60, sealing=Sealing(rows=20, fanout=100))
    victim = sorted((folder / "lineage" / "variants").iterdir())[0]
    whole = victim.read_bytes()
    victim.write_bytes(whole[:200] + bytes(255 - byte for byte in whole[200:400]) + whole[400:])
    answer = sql.ask(folder, "SELECT count(*) AS births FROM variants WHERE length(hypothesis || variant_id) > 0")
    assert 0 < answer.rows[0][0] < 60
    assert len(answer.damage) == 1
    assert victim.name in answer.damage[0]


def test_a_part_without_a_footer_is_named_and_the_rest_is_asked(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path / "run", 60, sealing=Sealing(rows=20, fanout=100))
    victim = sorted((folder / "lineage" / "variants").iterdir())[0]
    victim.write_bytes(victim.read_bytes()[:-100])
    answer = sql.ask(folder, "SELECT count(*) FROM variants")
    assert 0 < answer.rows[0][0] < 60
    assert victim.name in answer.damage[0]


def test_answers_are_json_and_a_table(run: Path, printed) -> None:
    answer = sql.ask(run, "SELECT *, 1 AS x, 2 AS x, 'nan'::DOUBLE AS odd, '\x1b[31m' AS hostile FROM variants LIMIT 3")
    values = sql.values(answer)
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert (values[0]["x"], values[0]["x_2"], values[0]["odd"]) == (1, 2, None)
    narrow = sql.ask(run, "SELECT number, status, '\x1b[31m' AS hostile FROM variants ORDER BY number LIMIT 3")
    lines = printed(sql.draw(narrow))
    assert lines[0].split() == ["number", "status", "hostile"]
    assert lines[-1] == "3 rows"
    assert "\x1b" not in "".join(lines)


def test_rows_too_wide_for_the_screen_are_drawn_value_by_value(run: Path, printed) -> None:
    answer = sql.ask(run, "SELECT * FROM variants ORDER BY number LIMIT 2")
    lines = printed(sql.draw(answer))
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if line.strip()].count("variant_id") == 2
    identity = answer.rows[0][answer.columns.index("variant_id")]
    assert any(line.split() == ["variant_id", identity] for line in lines)


def test_a_column_that_is_not_there_gets_those_that_are(run: Path) -> None:
    with pytest.raises(UsageError, match=r"\"gain\" not found.*variants has sequence, variant_id.*scores has"):
        sql.ask(run, "SELECT gain FROM variants")
