"""What a run concludes from its parts: the noise floor apart, pairs, conditions, texts of tokens; and its record."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from kullback.scoring import InputError, OutputError, UsageError, cli, plan, score, summarise
from kullback.scoring.paired import compare_pairs
from kullback.scoring.statistics import Bootstrap


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Cut 60 columns of float32 into parts of 7 rows."""
    monkeypatch.setattr(plan, "_PART_BYTES", 7 * 60 * 4)


@pytest.fixture
def files(tmp_path):
    """A reference, its second run, two candidates, targets and texts of tokens: 40 rows of 60 tokens."""
    rng = np.random.default_rng(1)
    p = rng.normal(0, 3, (40, 60)).astype(np.float32)
    for name, size in {"p": 0, "again": 0.01, "q": 0.1, "r": 0.3}.items():
        np.save(tmp_path / f"{name}.npy", p + rng.normal(0, 1, p.shape).astype(np.float32) * np.float32(size))
    np.save(tmp_path / "targets.npy", rng.integers(0, 60, 40))
    (tmp_path / "texts.txt").write_text("\n".join(["Ġword", "7", ".", "Ċ"] * 15))
    return tmp_path


def run(files, out, **options):
    return score(files / "p.npy", [files / "q.npy", files / "r.npy"], files / out, **{"group_size": 8} | options)


def everything(files):
    return {
        "targets": files / "targets.npy",
        "noise_floor": files / "again.npy",
        "token_texts": files / "texts.txt",
        "fail_if": ["kl.mean > 1e-3", "same_top < 0"],
    }


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_summary_file(files):
    result = run(files, "out", **everything(files))
    stored = json.loads((files / "out" / "summary.json").read_text())
    assert list(stored["candidates"]) == ["q", "r"]
    estimate = {"value", "standard_error", "over_all", "n_rows", "group_standard_error", "low", "high"}
    for candidate in [*stored["candidates"].values(), stored["noise_floor"]]:
        assert {"path", "n_rows", "statistics", "buckets"} <= set(candidate)
        distribution = candidate["statistics"]["kl"].keys()
        for bucket in candidate["buckets"]["top1_prob_p"]:
            assert {"low", "high", "n_rows", "statistics"} <= set(bucket)
            assert bucket["statistics"]["kl"].keys() == distribution
        classes = candidate["buckets"]["token_class"]
        assert {bucket["name"] for bucket in classes} == {"word_start", "number", "punctuation", "newline"}
        assert sum(bucket["n_rows"] for bucket in classes) == 40
        assert all(bucket["statistics"]["kl"].keys() == distribution for bucket in classes)
    for name, candidate in stored["candidates"].items():
        above = candidate["above_noise_floor"]
        assert above.keys() == {"metric", "ratio", "difference", "above"}
        assert above["metric"] == "kl"
        assert above["difference"].keys() == estimate
        assert above["above"] is result.above_noise_floor[name].above is True
        floor = stored["noise_floor"]["statistics"]["kl"]["mean"]["value"]
        assert above["ratio"] == pytest.approx(candidate["statistics"]["kl"]["mean"]["value"] / floor)
    assert [(pair["a"], pair["b"], pair["metric"]) for pair in stored["paired"]] == [
        ("q", "r", "kl"),
        ("q", "r", "log_perplexity"),
    ]
    assert all({"difference", "better", "confidence"} <= set(pair) for pair in stored["paired"])
    assert stored["paired"][0]["difference"].keys() == estimate
    assert stored["paired"][0]["better"] == "q"
    conditions = stored["thresholds"]
    assert all(condition.keys() == {"expression", "candidate", "value", "failed"} for condition in conditions)
    assert [(c["expression"], c["candidate"], c["failed"]) for c in conditions] == [
        *(("kl.mean > 1e-3", "q", True), ("kl.mean > 1e-3", "r", True)),
        *(("same_top < 0", "q", False), ("same_top < 0", "r", False)),
    ]
    assert conditions[0]["value"] == stored["candidates"]["q"]["statistics"]["kl"]["mean"]["value"]
    assert [outcome.candidate for outcome in result.failed] == ["q", "r"]
    assert result.to_dict() == stored


def test_the_numbers_are_those_of_the_parts(files):
    result = run(files, "out", **everything(files))
    columns = {}
    for name in ("q", "r", "noise_floor"):
        table = pq.read_table(sorted((files / "out" / name).glob("*.parquet")))
        columns[name] = {column: table[column].to_numpy() for column in table.column_names}
    groups = columns["q"]["group"]
    (kl, log_perplexity) = result.paired
    pairs = {name: columns[name] for name in "qr"}
    assert (kl, log_perplexity) == compare_pairs(pairs, Bootstrap(groups, 2000, 0))
    floor = {name: values for name, values in columns["noise_floor"].items() if name not in ("row", "group", "target")}
    assert result.noise_floor.statistics == summarise(floor, groups).statistics
    assert result.noise_floor["kl"].mean.value < 0.1 * result["q"]["kl"].mean.value
    classes = np.array(["word_start", "number", "punctuation", "newline"])[np.load(files / "targets.npy") % 4]
    for bucket in result["q"].buckets["token_class"]:
        rows = classes == bucket.name
        assert bucket.n_rows == rows.sum()
        assert bucket.statistics["kl"].mean.value == pytest.approx(columns["q"]["kl"][rows].mean(), rel=1e-14)


def test_text_of_the_result(files):
    text = str(run(files, "out", **everything(files)))
    for expected in (
        *("noise floor", "Mean KL by class of token", "word start", "Against the noise floor", "above it"),
        *("r - q: KL +", "q is better (confidence", "r: kl.mean > 1e-3 is met"),
    ):
        assert expected in text
    assert "Against" not in str(score(files / "p.npy", files / "q.npy", files / "plain"))


def test_a_floor_no_candidate_is_above(files):
    result = score(files / "p.npy", files / "again.npy", files / "out", noise_floor=files / "q.npy")
    found = result.above_noise_floor["again"]
    assert not found.above
    assert found.ratio < 0.1
    assert found.difference.high is None  # no groups
    assert "not above it" in str(result)


def test_interrupted_runs_end_like_others(files):
    run(files, "whole", **everything(files))
    expected = contents(files / "whole")

    class Stop(Exception):
        pass

    for n_rows in (0, 8, 20, 30):

        def stop(state, n_rows=n_rows):
            if state.rows >= n_rows:
                raise Stop

        with pytest.raises(Stop):
            run(files, "out", **everything(files), progress=stop)
    assert not (files / "out" / "summary.json").exists()
    result = run(files, "out", **everything(files))
    assert result.parts_kept > 0
    assert contents(files / "out") == expected


def test_texts_and_conditions_of_a_finished_run_change_no_part(files):
    options = everything(files)
    later = {name: options.pop(name) for name in ("token_texts", "fail_if")}
    run(files, "out", **options)
    plain = contents(files / "out")
    assert "token_texts" not in json.loads(plain["manifest.json"])
    again = run(files, "out", **options, **later)
    assert (again.parts_written, again.parts_kept) == (0, 18)
    found = contents(files / "out")
    assert {name for name in plain if plain[name] != found[name]} == {"summary.json", "manifest.json"}
    manifest = json.loads(found["manifest.json"])
    assert manifest["token_texts"] == str(files / "texts.txt")
    assert manifest["token_texts_record"]["size"] == (files / "texts.txt").stat().st_size
    run(files, "fresh", **options, **later)
    assert contents(files / "fresh") == found
    (files / "texts.txt").write_text("other\n")  # other texts, same distributions
    assert run(files, "out", **options, **later).parts_written == 0
    assert json.loads((files / "out" / "manifest.json").read_text())["token_texts_record"]["size"] == 6
    run(files, "out", **options)
    assert contents(files / "out") == plain


def test_another_floor_is_another_run(files):
    run(files, "out", noise_floor=files / "again.npy")
    with pytest.raises(OutputError, match="noise floor"):
        run(files, "out", noise_floor=files / "q.npy")
    with pytest.raises(OutputError, match="noise floor"):
        run(files, "out")
    assert (files / "out" / "noise_floor").is_dir()
    run(files, "out", overwrite=True)
    assert not (files / "out" / "noise_floor").exists()
    assert "noise_floor" not in json.loads((files / "out" / "summary.json").read_text())


def test_a_candidate_of_that_name_is_kept_apart(files):
    (files / "q.npy").rename(files / "noise_floor.npy")
    result = score(files / "p.npy", files / "noise_floor.npy", files / "out", noise_floor=files / "again.npy")
    assert list(result) == ["noise_floor-2"]
    assert result["noise_floor-2"]["kl"].mean.value > 10 * result.noise_floor["kl"].mean.value


def test_a_floor_that_does_not_fit(files):
    np.save(files / "short.npy", np.zeros((39, 60), np.float32))
    with pytest.raises(InputError, match=r"short.npy has 39 rows"):
        run(files, "out", noise_floor=files / "short.npy")
    with pytest.raises(InputError, match=r"gone.npy does not exist"):
        run(files, "out", noise_floor=files / "gone.npy")
    assert not (files / "out").exists()


def test_refusals_come_before_anything_is_written(files):
    for fail_if, message in (
        ("kl.mean >", "STATISTIC"),
        ("kld > 1", "did you mean 'kl'"),
        ("perplexity_ratio > 1.1", "names no statistic"),  # without targets
    ):
        with pytest.raises(UsageError, match=message):
            run(files, "out", fail_if=fail_if)
    with pytest.raises(UsageError, match="needs groups"):
        run(files, "out", fail_if="kl.high > 1", group_size=None)
    with pytest.raises(UsageError, match="token_texts need targets or the column top1_p"):
        run(files, "out", token_texts=files / "texts.txt", metrics="kl")
    with pytest.raises(InputError, match="is missing"):
        run(files, "out", token_texts=files / "gone.txt")
    assert not (files / "out").exists()


def test_rows_left_out_of_a_condition_are_warned_of(files):
    q = np.load(files / "q.npy")
    q[3, 5] = -np.inf
    q[4, 5] = np.nan
    np.save(files / "q.npy", q)
    result = run(files, "out", fail_if=["kl.mean > 100", "kl.n_nan > 0"])
    (warning,) = result.warnings
    assert warning.startswith("q: kl.mean > 100 leaves out 1 rows that are infinite and 1 that are NaN")
    assert [(outcome.candidate, outcome.expression) for outcome in result.failed] == [("q", "kl.n_nan > 0")]
    assert json.loads((files / "out" / "summary.json").read_text())["warnings"] == [warning]
    assert result.paired[0].better is None or result.paired[0].n_infinite_a == 1


def command(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return caught.value.code, captured.out, captured.err


def test_the_command_fails_with_status_3(files, capsys):
    base = ("score", files / "p.npy", files / "q.npy", files / "r.npy", "--out", files / "out", "--quiet")
    status, out, errors = command(capsys, *base, "--fail-if", "kl.mean > 1e9", "--fail-if", "same_top<0")
    assert (status, errors) == (0, "")
    status, out, errors = command(capsys, *base, "--fail-if", "kl.mean > 0.02", "--fail-if", "same_top < 0")
    assert status == 3
    assert "9,999" not in out
    assert "summary.json" in out  # the table is printed all the same
    (line,) = errors.splitlines()
    assert line.startswith("kullback: failed: r: kl.mean > 0.02 is met (0.")
    status, out, _ = command(capsys, *base, "--json", "--fail-if", "kl.mean > 0.02")
    assert status == 3
    assert [condition["failed"] for condition in json.loads(out)["thresholds"]] == [False, True]
    status, out, errors = command(capsys, *base, "--fail-if", "kl.maen > 0.02")
    assert (status, out) == (2, "")
    assert "did you mean 'mean'?" in errors
    assert errors.count("\n") == 1


def test_a_condition_that_cannot_be_told_fails_the_command(files, capsys):
    np.save(files / "q.npy", np.full((40, 60), np.nan, np.float32))
    base = ("score", files / "p.npy", files / "q.npy", "--out", files / "out", "--quiet")
    status, _, errors = command(capsys, *base, "--fail-if", "kl.mean > 0.02")
    assert status == 3
    assert "cannot be told, the statistic is NaN" in errors


def test_the_command_does_what_the_function_does(files, capsys):
    run(files, "a", **everything(files))
    status, out, errors = command(
        *(capsys, "score", files / "p.npy", files / "q.npy", files / "r.npy", "--out", files / "b", "--group-size", 8),
        *("--targets", files / "targets.npy", "--noise-floor", files / "again.npy", "--token-texts"),
        *(files / "texts.txt", "--fail-if", "kl.mean > 1e-3", "--fail-if", "same_top < 0", "--quiet"),
    )
    assert (status, errors.count("failed: ")) == (3, 2)
    assert contents(files / "a") == contents(files / "b")
    for expected in ("noise floor", "Against the noise floor", "Differences between candidates", "Conditions"):
        assert expected in out
