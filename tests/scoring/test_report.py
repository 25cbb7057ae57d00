"""The page of a report, read by a parser of HTML: what stands in it, in which order, and that nothing foreign runs."""

import html as html_escapes
import itertools
import json
import re
import subprocess
import sys

import html5lib
import matplotlib
import numpy as np
import pyarrow.parquet as pq
import pytest
import report_runs

import kullback as kb
from kullback.scoring import InputError

XHTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"


def parse(path):
    """Parse strictly: html5lib raises at what a browser would repair, but for what XML names do in SVG."""
    text = path.read_text(encoding="utf-8")
    parser = html5lib.HTMLParser(strict=True)
    return parser.parse(text), text


def words(element):
    return " ".join("".join(element.itertext()).split())


def sections(document):
    """Return the sections by the text of their headings, in order."""
    found = {}
    for section in document.iter(f"{XHTML}section"):
        found[words(section.find(f"{XHTML}h2"))] = section
    return found


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """Return a report with every section, of three candidates, with hostile texts."""
    folder = tmp_path_factory.mktemp("extended")
    out = report_runs.make(folder, [0.01, 0.1, 0.8])
    report_runs.extend(out)
    result = kb.report(out, token_texts=report_runs.token_texts(folder))
    return out, result, *parse(result.path)


def test_sections_in_order_and_the_verdict_first(extended):
    _, result, document, _ = extended
    assert list(sections(document)) == [
        "Verdict",
        "Candidates",
        "KL per token",
        "Probability of the token that followed",
        "Along the position",
        "Where the reference is sure, and where not",
        "By class of token",
        "Rows that moved most",
        "Paired comparisons",
        "How the numbers were made",
    ]
    verdict = words(sections(document)["Verdict"])
    for sentence in result.verdict:
        assert sentence.split(": ", 1)[-1] in verdict
    targets = [a.get("href")[1:] for a in document.iter(f"{XHTML}a")]
    identifiers = [element.get("id") for element in document.iter() if element.get("id")]
    assert set(targets) <= set(identifiers)
    assert len(identifiers) == len(set(identifiers))


def test_the_verdict_says_what_the_summary_says(extended):
    out, result, _, _ = extended
    statistics = json.loads((out / "summary.json").read_text())["candidates"]["q0"]["statistics"]
    mean = statistics["kl"]["mean"]
    assert result.verdict[
        0
    ] == f"q0 stays nearest to the reference: mean KL divergence {mean['value']:.2e} nats.".replace("e-0", "e-")
    sentence = next(text for text in result.verdict if text.startswith("q0: "))
    assert f"95 % interval {mean['low']:.2e} to {mean['high']:.2e}".replace("e-0", "e-") in sentence
    assert f"{100 * statistics['same_top']['value']:.2f}" in sentence or "100 % of rows" in sentence
    assert "cannot be told from the noise floor of 0.00100 nats" in sentence
    last = next(text for text in result.verdict if text.startswith("q2: "))
    ratio = statistics_of(out, "q2")["perplexity_ratio"]["value"]
    assert f"a ratio of {ratio:.3f} (" in last
    assert "above the noise floor" in last
    assert "Failed: 1 of 2 thresholds, by q1." in result.verdict
    assert "Row by row q0 is nearer than q1: by 0.0200 nats on average." in result.verdict


def statistics_of(out, name):
    return json.loads((out / "summary.json").read_text())["candidates"][name]["statistics"]


def test_tables_are_whole_and_accessible(extended):
    _, _, document, _ = extended
    tables = list(document.iter(f"{XHTML}table"))
    assert len(tables) >= 10
    for table in tables:
        assert words(table.find(f"{XHTML}caption"))
        heads = table.findall(f"{XHTML}thead/{XHTML}tr/{XHTML}th")
        assert all(head.get("scope") == "col" for head in heads)
        for row in table.findall(f"{XHTML}tbody/{XHTML}tr"):
            assert len(list(row)) == len(heads)
            assert (row[0].tag, row[0].get("scope")) == (f"{XHTML}th", "row")
    candidates = words(tables[0])
    assert candidates.index("q0") < candidates.index("q1") < candidates.index("q2") < candidates.index("noise floor")
    paired = words(sections(document)["Paired comparisons"])
    assert "q1 − q0 KL 0.0200" in paired
    assert "cannot be told apart" in paired
    assert "✗ failed" in words(sections(document)["Candidates"])


def test_landmarks_headings_and_charts_have_names(extended):
    _, _, document, _ = extended
    assert document.get("lang") == "en"
    assert [len(list(document.iter(XHTML + tag))) for tag in ("header", "nav", "main", "footer", "h1")] == [1] * 5
    levels = [int(element.tag[-1]) for element in document.iter() if re.fullmatch(XHTML + "h[1-6]", str(element.tag))]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    charts = list(document.iter(f"{SVG}svg"))
    assert [chart.get("class") for chart in charts] == ["wide", "narrow"] * 6
    for chart in charts:
        assert chart.get("role") == "img"
        assert len(chart.get("aria-label")) > 20
        assert list(chart.iter(f"{SVG}text"))
    for region in document.iter(f"{XHTML}div"):
        if region.get("role") == "region":
            assert region.get("aria-label")


def test_nothing_runs_and_nothing_is_fetched(extended):
    _, result, document, text = extended
    assert result.size == result.path.stat().st_size < 3_000_000
    names = {str(element.tag).rpartition("}")[2] for element in document.iter()}
    assert not names & {"script", "iframe", "object", "embed", "img", "base", "form", "foreignObject"}
    for element in document.iter():
        for attribute, value in element.attrib.items():
            name = str(attribute).rpartition("}")[2]
            assert not name.startswith("on")
            if name in ("href", "src", "srcset", "action"):
                assert value.startswith(("#", "data:"))
            for address in re.findall(r"url\(([^)]*)\)", value):
                assert address.startswith("#")
    style = words(next(document.iter(f"{XHTML}style")))
    assert "@import" not in style
    assert "url(" not in style
    assert "default-src 'none'" in text


def test_hostile_token_texts_are_text(extended):
    _, _, document, text = extended
    shown = "".join("".join(chip.itertext()) for chip in document.iter(f"{XHTML}span") if chip.get("class") == "chip")
    shown += "".join("".join(cell.itertext()) for cell in document.iter(f"{XHTML}td") if cell.get("class") == "context")
    for piece in ("<script>alert(1)</script>", "{{ 7 * 7 }}{% raw %}", "</style></title></svg><b>", "&lt;b&gt;"):
        assert piece.replace(" ", "") in shown.replace(" ", "").replace("␣", "")
    assert "␀␛[31m⏎⇥␡" in shown
    assert "⟨U+202E⟩abc⟨U+2066⟩⟨U+200B⟩" in shown
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e\u2066\u200b]", text)
    assert not list(document.iter(f"{XHTML}b"))


def test_hostile_names_are_text(tmp_path):
    out = report_runs.make(tmp_path, [0.1, 0.2], names=["alpha", "beta"])
    for name in ("summary.json", "manifest.json"):
        path = out / name
        text = path.read_text().replace('"alpha"', json.dumps(report_runs.HOSTILE_NAME))
        path.write_text(text.replace("targets.npy", "\\u001b</pre><b>.npy"))
    (out / "alpha").rename(out / report_runs.HOSTILE_NAME)
    result = kb.report(out)
    document, _ = parse(result.path)
    assert report_runs.HOSTILE_NAME in words(sections(document)["Candidates"])
    assert not list(document.iter(f"{XHTML}b"))
    assert not list(document.iter(f"{XHTML}img"))
    assert "'" in words(next(document.iter(f"{XHTML}pre")))  # quoted for a shell
    drawn = {words(text) for chart in document.iter(f"{SVG}svg") for text in chart.iter(f"{SVG}text")}
    assert any("$x_1^2$&" in text for text in drawn)


def luminance(colour):
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_of_every_theme(extended):
    _, _, document, text = extended
    style = words(next(document.iter(f"{XHTML}style")))
    themes = re.findall(r":root \{([^}]*--paper[^}]*)\}", style)
    assert len(themes) == 3  # light, dark, print
    for theme in themes:
        colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", theme))
        for name in ("ink", "muted", "accent", "good", "bad", "note"):
            assert min(contrast(colours[name], colours[ground]) for ground in ("paper", "raised")) >= 4.5
        for number in range(1, 6):
            assert contrast(colours[f"series-{number}"], colours["paper"]) >= 4.5
    used = set(re.findall(r"var\((--[a-z0-9-]+)\)", text))
    assert used <= {f"--{name}" for name in colours}
    assert "--series-3" in used
    # A stand-in colour that no variable replaced would be black in either theme.
    drawn = {value for element in document.iter() for value in re.findall("#[0-9a-f]{6}", element.get("style", ""))}
    assert drawn <= {"#ffffff"}


def test_sections_of_what_is_absent_are_left_out(tmp_path):
    out = report_runs.make(tmp_path, [0.1], targets=False, group=None)
    document, text = parse(kb.report(out).path)
    titles = list(sections(document))
    assert "Probability of the token that followed" not in titles
    assert not {"Paired comparisons", "By class of token"} & set(titles)
    assert "Along the position" in titles
    assert "takes" in text or "take rows as independent" in text
    assert "perplexity from" not in text


def test_identical_models(tmp_path):
    result = kb.report(report_runs.make(tmp_path, [0.0, 0.0]))
    document, _ = parse(result.path)
    assert result.verdict[0] == "None of the 2 candidates moved: the KL divergence is exactly 0 in every row."
    assert "Rows that moved most" not in sections(document)
    result = kb.report(report_runs.make(tmp_path / "one", [0.0]))
    assert result.verdict[0] == "q0 did not move: the KL divergence is exactly 0 in every row."
    assert "perplexity unchanged" in result.verdict[1]


def test_everything_infinite(tmp_path):
    def change(q):
        q[:, 1:] = -np.inf

    result = kb.report(report_runs.make(tmp_path, [0.1], change=change, targets=False))
    document, text = parse(result.path)
    assert "No row of any candidate has a finite KL divergence" in result.verdict[0]
    assert any("infinite in 120 of 120 rows (100 %)" in sentence for sentence in result.verdict)
    assert "∞" in words(sections(document)["Candidates"])
    assert "10 rows with the largest KL" in text


def test_infinite_and_undefined_rows_are_counted_and_shown(tmp_path):
    def change(q):
        q[3, 7] = -np.inf
        q[5:7] = np.nan

    out = report_runs.make(tmp_path, [0.0, 0.1], change=change)
    result = kb.report(out)
    document, _ = parse(result.path)
    note = next(text for text in result.verdict if "infinite" in text)
    assert "infinite in 1 of 120 rows (0.83 %)" in note
    assert "no distribution to compare (NaN) in 2 of 120 rows (1.67 %)" in note
    strip = sections(document)["KL per token"].find(f".//{SVG}svg")
    assert "117 exactly 0, 1 infinite, 2 undefined of 120" in [words(text) for text in strip.iter(f"{SVG}text")]
    assert "1 infinite, 2 undefined of 120" in [words(text) for text in strip.iter(f"{SVG}text")]
    worst = next(table for table in document.iter(f"{XHTML}table") if table.get("class") == "worst")
    assert words(worst.find(f"{XHTML}tbody/{XHTML}tr/{XHTML}th")) == "∞"
    assert result.candidates[0]["infinite_rows"] == 1
    assert result.candidates[0]["undefined_rows"] == 2
    assert "4 rows without a finite Δp" in words(sections(document)["Probability of the token that followed"])


def test_one_row(tmp_path):
    result = kb.report(report_runs.make(tmp_path, [0.3], rows=1, group=None))
    parse(result.path)
    assert "One row has no interval, and says nothing about others." in result.verdict
    assert "interval" not in " ".join(result.verdict[:-1])


def test_many_candidates(tmp_path, monkeypatch):
    from kullback.scoring.reporting import page

    monkeypatch.setattr(page, "_MOST_SHOWN", 6)
    out = report_runs.make(tmp_path, np.geomspace(0.01, 2, 8), rows=36)
    report_runs.extend(out)
    result = kb.report(out)
    document, text = parse(result.path)
    assert "The table has the 3 candidates between these." in result.verdict
    assert [item["name"] for item in result.candidates] == [f"q{number}" for number in range(8)]
    table = next(document.iter(f"{XHTML}table"))
    assert len(table.findall(f"{XHTML}tbody/{XHTML}tr")) == 9  # and the noise floor
    assert "Charts and rows show the 6 nearest; tables have the other 2 too." in text
    panels = sections(document)["Along the position"].find(f".//{SVG}svg")
    assert {f"q{number}" for number in range(6)} <= {words(text) for text in panels.iter(f"{SVG}text")}


def test_worst_rows_are_the_worst_in_their_context(tmp_path):
    out = report_runs.make(tmp_path, [0.3])
    result = kb.report(out)
    document, _ = parse(result.path)
    parts = pq.read_table(out / "q0")
    kl, targets = parts["kl"].to_numpy(), parts["target"].to_numpy()
    worst = next(table for table in document.iter(f"{XHTML}table") if table.get("class") == "worst")
    rows = [[words(cell) for cell in row] for row in worst.findall(f"{XHTML}tbody/{XHTML}tr")]
    order = np.argsort(-kl, kind="stable")[:10]
    assert [int(row[5].split()[0].replace(",", "")) for row in rows] == order.tolist()
    for row, cells in zip(order.tolist(), rows, strict=True):
        group = range(row // 12 * 12, row // 12 * 12 + 12)
        near = [int(targets[i]) for i in range(row - 12, row + 4) if i in group]
        assert [int(text) for text in cells[1].split()] == near
        assert cells[5].endswith(f"group {row // 12}")
        assert float(cells[0]) == pytest.approx(kl[row], rel=5e-3)
        assert float(cells[4].split(" → ")[0]) == pytest.approx(np.exp(parts["log_prob_p"][row].as_py()), rel=5e-3)


def test_another_divergence_takes_the_place_of_kl(tmp_path):
    result = kb.report(report_runs.make(tmp_path, [0.1], metrics="js,renyi:order=2"))
    assert "mean Jensen-Shannon divergence of" in result.verdict[0] or "Jensen-Shannon" in result.verdict[0]
    assert "JS per token" in sections(parse(result.path)[0])
    result = kb.report(report_runs.make(tmp_path / "other", [0.1], metrics="renyi:order=2"))
    assert "renyi:order=2" in result.verdict[0]
    with pytest.raises(InputError, match=r"scored without a divergence.*entropy_p"):
        kb.report(report_runs.make(tmp_path / "none", [0.1], metrics="entropy_p"))


def test_the_command_of_the_page_makes_the_run_again(tmp_path):
    out = report_runs.make(tmp_path, [0.1], metrics="kl,js", rows=24)
    document, _ = parse(kb.report(out).path)
    again = tmp_path / "again"
    command = "".join(next(document.iter(f"{XHTML}pre")).itertext()).replace(str(out), str(again))
    command = command.replace("kullback ", f"{sys.executable} -m kullback.scoring ")
    subprocess.run(command.replace("\n", " && "), shell=True, check=True, capture_output=True)
    assert (again / "report.html").exists()
    assert (again / "summary.json").read_text() == (out / "summary.json").read_text()


def test_the_command_has_every_file_and_option(tmp_path):
    out = report_runs.make(tmp_path, [0.1, 0.2], rows=24)
    report_runs.extend(out)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["paths"]["noise floor"] = "again now.npy"
    manifest["token_texts"] = "vocab.txt"
    manifest["identity"]["options"] |= {"tail": "bounds", "temperature": 0.5, "raw": {"dtype": "f4", "shape": [-1, 40]}}
    (out / "manifest.json").write_text(json.dumps(manifest))
    command = words(next(parse(kb.report(out).path)[0].iter(f"{XHTML}pre")))
    for option in (
        "--noise-floor 'again now.npy'",
        "--token-texts vocab.txt",
        "--fail-if 'kl.mean > 0.01'",
        "--tail bounds",
        "--temperature 0.5",
        "--dtype f4 --shape -1,40",
        "--group-size 12",
    ):
        assert command.count(option) == 1


def test_the_same_run_gives_the_same_page(tmp_path):
    out = report_runs.make(tmp_path, [0.1, 0.2])
    first = kb.report(out).path.read_bytes()
    assert kb.report(out, tmp_path / "page.html").path.read_bytes() == first


def test_the_callers_matplotlib_style_is_neither_used_nor_changed(tmp_path):
    out = report_runs.make(tmp_path, [0.1, 0.2])
    first = kb.report(out).path.read_bytes()
    mine = {
        "svg.fonttype": "path",
        "font.size": 40,
        "figure.facecolor": "red",
        "axes.prop_cycle": "cycler('color', 'r')",
    }
    with matplotlib.rc_context(mine):
        before = dict(matplotlib.rcParams)
        assert kb.report(out).path.read_bytes() == first
        assert dict(matplotlib.rcParams) == before


def test_rows_in_several_parts_or_batches_give_the_same_page(tmp_path, monkeypatch):
    from kullback.scoring import plan
    from kullback.scoring.reporting import rows

    whole = kb.report(report_runs.make(tmp_path / "a", [0.1, 0.9])).path.read_text()
    monkeypatch.setattr(plan, "_PART_BYTES", 7 * 40 * 4)
    out = report_runs.make(tmp_path / "b", [0.1, 0.9])
    assert len(list((out / "q0").iterdir())) == 18
    cut = kb.report(out).path.read_text()
    assert charts_and_rows(cut) == charts_and_rows(whole)
    monkeypatch.setattr(rows, "_BATCH", 3)
    assert kb.report(out).path.read_text() == cut


def charts_and_rows(page):
    return page[: page.index('<section aria-labelledby="origin">')].replace("/b/", "/a/")


def test_the_page_is_utf8_and_escapes_survive_a_round_trip(extended):
    _, result, _, text = extended
    assert text.startswith("<!DOCTYPE html>")
    assert 'charset="utf-8"' in text
    assert html_escapes.unescape("&lt;script&gt;alert(1)&lt;/script&gt;") in html_escapes.unescape(text)
    assert result.to_dict()["bytes"] == len(text.encode())


def test_a_new_run_takes_the_old_page_away(tmp_path):
    out = report_runs.make(tmp_path, [0.1], rows=12)
    page = kb.report(out).path
    kb.score(tmp_path / "reference.npy", tmp_path / "q0.npy", out, metrics="kl", overwrite=True)
    assert not page.exists()
