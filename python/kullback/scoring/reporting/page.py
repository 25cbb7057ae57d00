"""The page: what was gathered, drawn and put into words, laid out by the template with everything escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import charts, courses, tables
from .figures import Chart
from .gather import Run
from .origin import command, environment, files
from .rows import Rows
from .tables import Table
from .tally import tally
from .terms import definitions, metric_symbol
from .verdict import Verdict
from .words import count, plural, visible
from .worst import Texts, n_worst, worst_rows

__all__ = ["render"]

# Candidates in charts and among the rows that moved most, the nearest first; tables have all.
_MOST_SHOWN = 24
_EXPONENT = re.compile(r"\d[\d.]*e-\d+")
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Section:
    """A section of charts and tables; its name is the anchor."""

    name: str
    title: str
    lead: str
    charts: Sequence[Chart]
    tables: Sequence[Table]
    note: str = ""


def render(run: Run, rows: Rows, verdict: Verdict, texts: Texts | None) -> str:
    """Return the page of a run as one HTML document that refers to nothing outside it.

    Parameters
    ----------
    run : Run
        The run.
    rows : Rows
        Its parts, which are read once.
    verdict : Verdict
        What stands first.
    texts : Texts, optional
        Text of each token id.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    shown = run.nearest_first()[:_MOST_SHOWN]
    most = n_worst(len(run.candidates))
    tallies = tally(run, rows, most)
    sections = [
        Section("distribution", f"{metric_symbol(run.metric)} per token", _distribution_lead(run),
                _given(charts.distributions(run, shown, tallies)), _given(tables.percentile_table(run))),
        Section("changes", "Probability of the token that followed",
                "Above the line the candidate gives the token more probability than the reference, below it less. "
                "Noise scatters to both sides alike; a cloud below the line says that it predicts this text worse.",
                _given(charts.changes(run, shown, tallies)), _given(tables.change_table(run)),
                _unknown(shown, tallies)),
        Section("position", "Along the position",
                "Errors that build up with the context show as a line that rises. The band is one standard error.",
                _given(courses.profiles(run, shown, tallies)), []),
        *(
            Section(name, title, lead, _given(courses.by_bucket(run, shown, kind, what)),
                    _given(tables.bucket_table(run, kind, what)))
            for kind, name, title, what, lead in _BUCKETS
        ),
    ]  # fmt: skip
    worst = worst_rows(run, rows, shown, tallies, texts)
    environment_ = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment_.filters["unbroken"] = _unbroken
    template = environment_.get_template("page.html")
    return template.render(
        # Ours, and the only text that is not escaped: the style sheet, and SVG that a library has escaped.
        style=Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8")),
        svg=Markup,
        title=_title(run),
        facts=_facts(run),
        verdict=verdict,
        means=charts.means(run, shown),
        candidates=tables.candidate_table(run),
        thresholds=tables.threshold_table(run),
        sections=[section for section in sections if section.charts or section.tables],
        hidden=len(run.candidates) - len(shown),
        n_shown=len(shown),
        worst={visible(name): items for name, items in worst.items()},
        has_texts=texts is not None,
        metric=metric_symbol(run.metric),
        paired=tables.paired_table(run),
        definitions=definitions(run),
        command=command(run),
        files=files(run),
        environment=environment(run),
    )


_BUCKETS = (
    ("top1_prob_p", "certainty", "Where the reference is sure, and where not", "highest probability of the reference",
     "Rows by the probability that the reference gives to its first choice."),
    ("token_class", "classes", "By class of token", "token class", "Rows by what the token that followed is."),
)  # fmt: skip


def _unbroken(text: str) -> Any:
    """Return text, escaped, in which no line ends within a number's exponent."""
    from markupsafe import Markup, escape

    return Markup(_EXPONENT.sub(r'<span class="whole">\g<0></span>', str(escape(text))))


def _given(item: Any) -> list[Any]:
    return [] if item is None else [item]


def _title(run: Run) -> str:
    names = [visible(name) for name in run.candidates]
    who = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    if len(names) > 4 or len(who) > 60:
        who = f"{len(names)} candidates" if len(names) > 1 else "the candidate"
    return f"How far did {who} move?"


def _facts(run: Run) -> list[tuple[str, str]]:
    facts = [
        ("reference", visible(str(run.summary.get("reference", "–")))),
        ("candidates", visible(", ".join(run.candidates))),
        ("rows", count(run.n_rows)),
    ]
    if run.n_groups:
        facts.append(("groups", count(run.n_groups)))
    vocabulary = run.summary.get("vocab_size")
    if isinstance(vocabulary, int):
        facts.append(("vocabulary", count(vocabulary)))
    return facts


def _distribution_lead(run: Run) -> str:
    return (
        "A mean hides its tail: most tokens hardly move, and a few move far. Each strip is a candidate, its height the "
        f"number of rows. All {plural(run.n_rows, 'row')} are in it; what is smaller than the axis shows stands at its "
        "left end."
    )


def _unknown(shown: Sequence[Any], tallies: Any) -> str:
    n = sum(density.n_unknown for scored in shown if (density := tallies[scored.name].density) is not None)
    return f"{plural(n, 'row')} without a finite Δp are not in the picture." if n else ""
