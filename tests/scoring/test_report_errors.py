"""Reports of runs that are unfinished, damaged or not theirs: one sentence, and nothing half-written."""

import json

import html5lib
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import report_runs

import kullback as kb
from kullback.scoring import InputError, OutputError


@pytest.mark.parametrize("name", ["manifest.json", "summary.json"])
@pytest.mark.parametrize("content", [None, "{", "[]", '{"schema_version": 1}', '{"schema_version": 99}', "[" * 100_000])
def test_damaged_json_is_one_sentence(tmp_path, name, content):
    out = report_runs.make(tmp_path, [0.1], rows=12)
    (out / name).unlink() if content is None else (out / name).write_text(content)
    with pytest.raises(InputError, match=f"no {name}|damaged|schema version 99") as caught:
        kb.report(out)
    assert "\n" not in str(caught.value)
    assert not list(out.glob("report.html*"))


@pytest.mark.parametrize(
    ("place", "value", "refused"),
    [
        (("statistics", "kl", "mean", "value"), None, True),
        (("statistics", "kl", "percentiles"), [], True),
        (("n_rows",), "many", True),
        (("statistics",), "x", True),
        (("statistics", "kl", "mean", "low"), "NaN", False),
        (("statistics", "perplexity_ratio", "value"), "NaN", False),
        (("statistics", "kl", "mean", "value"), "Infinity", False),
        (("statistics", "delta_prob", "maximum"), 1e308, False),
    ],
)
def test_odd_values_are_shown_and_wrong_ones_refused(tmp_path, place, value, refused):
    out = report_runs.make(tmp_path, [0.1, 0.2], rows=12)
    summary = json.loads((out / "summary.json").read_text())
    *path, last = place
    at = summary["candidates"]["q0"]
    for name in path:
        at = at[name]
    at[last] = value
    (out / "summary.json").write_text(json.dumps(summary))
    if not refused:
        html5lib.HTMLParser(strict=True).parse(kb.report(out).path.read_text(encoding="utf-8"))
        return
    with pytest.raises(InputError, match=r"summary\.json or manifest\.json in .* is damaged") as caught:
        kb.report(out)
    assert "\n" not in str(caught.value)


def change_rows(path):
    pq.write_table(pq.read_table(path).slice(0, 5), path)


def change_columns(path):
    pq.write_table(pq.read_table(path).drop_columns(["kl"]), path)


def change_type(path):
    table = pq.read_table(path)
    names = pa.array(["x"] * table.num_rows)
    pq.write_table(table.set_column(table.schema.get_field_index("kl"), "kl", names), path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "part-000000.parquet is missing; the same kullback score command makes it again"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "part-000000.parquet is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:4] + b"\xff" * 200 + path.read_bytes()[204:]), "damaged"),
        (change_rows, "has 5 rows, not 24"),
        (change_columns, "has no column 'kl'"),
        (change_type, "not one of string"),
    ],
)
def test_damaged_parts_are_one_sentence(tmp_path, damage, message):
    out = report_runs.make(tmp_path, [0.1], rows=24)
    damage(out / "q0" / "part-000000.parquet")
    with pytest.raises(InputError, match=message):
        kb.report(out)
    assert not list(out.glob("report.html*"))


def test_other_folders_and_names_that_lead_outside(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        kb.report(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"is not the folder of a scoring run: it has no manifest\.json"):
        kb.report(tmp_path)
    out = report_runs.make(tmp_path, [0.1], rows=12)
    for name in ("summary.json", "manifest.json"):
        (out / name).write_text((out / name).read_text().replace('"q0"', '"../../etc"'))
    with pytest.raises(InputError, match="no folder of it"):
        kb.report(out)


def test_a_page_that_cannot_be_written(tmp_path):
    out = report_runs.make(tmp_path, [0.1], rows=12)
    for place, reason in ((tmp_path / "no" / "x.html", "is not a folder"), (tmp_path, "it is a folder")):
        with pytest.raises(OutputError, match=reason):
            kb.report(out, place)
    old = tmp_path / "page.html"
    old.write_text("old")
    (out / "q0" / "part-000000.parquet").unlink()
    with pytest.raises(InputError):
        kb.report(out, old)
    assert old.read_text() == "old"
