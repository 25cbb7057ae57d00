"""The rows that moved most, with the tokens around them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .gather import Run, Scored
from .rows import Rows
from .tally import Tally
from .words import number, shorten, visible

__all__ = ["Texts", "Token", "WorstRow", "n_worst", "worst_rows"]

# Targets shown before a row's own, and after it.
_BEFORE, _AFTER = 12, 3
# Letters of a token: longer ones are rules of dashes, and worse.
_LONGEST = 48


class Texts(Protocol):
    """The text of each token id."""

    def __len__(self) -> int: ...
    def __getitem__(self, token: int, /) -> str: ...


@dataclass(frozen=True)
class Token:
    """A token as it is shown: its text, or its number if texts are not known."""

    text: str
    is_text: bool


@dataclass(frozen=True)
class WorstRow:
    """One row: where it is, what each side said, and what followed."""

    value: str
    row: int
    group: int | None
    before: Sequence[Token]
    target: Token | None
    after: Sequence[Token]
    top_p: Token | None
    top_q: Token | None
    same_top: bool
    prob_p: str
    prob_q: str


def n_worst(n_candidates: int) -> int:
    """Return how many rows of each candidate are shown: the page has room for about a hundred."""
    return 10 if n_candidates <= 5 else 5 if n_candidates <= 12 else 3


def worst_rows(
    run: Run, rows: Rows, shown: Sequence[Scored], tallies: Mapping[str, Tally], texts: Texts | None
) -> dict[str, list[WorstRow]]:
    """Read the worst rows of every candidate shown, and the targets around them.

    Parameters
    ----------
    run : Run
        The run.
    rows : Rows
        Its parts.
    shown : sequence of Scored
        Candidates.
    tallies : mapping of str to Tally
        Which rows are worst.
    texts : Texts, optional
        Text of each token id.

    Returns
    -------
    dict of str to list of WorstRow
        Candidates of which no row is above 0 are left out.
    """
    chosen = {}
    for scored in shown:
        worst = tallies[scored.name].worst
        moved = worst.values > 0
        if moved.any():
            chosen[scored.name] = list(zip(worst.rows[moved].tolist(), worst.values[moved].tolist(), strict=True))
    if not chosen:
        return {}
    around = {near for items in chosen.values() for row, _ in items for near in range(row - _BEFORE, row + _AFTER + 1)}
    # Targets and groups are the same for every candidate.
    neighbours = rows.take(next(iter(chosen)), sorted(around), ["group", "target"])
    columns = [name for name in ("top1_p", "top1_q", "log_prob_p", "log_prob_q") if name in run.columns]
    found = {}
    for name, items in chosen.items():
        details = rows.take(name, [row for row, _ in items], columns) if columns else {}
        found[name] = [_row(row, value, neighbours, details.get(row, {}), texts) for row, value in items]
    return found


def _row(
    row: int,
    value: float,
    around: Mapping[int, Mapping[str, Any]],
    detail: Mapping[str, Any],
    texts: Texts | None,
) -> WorstRow:
    own = around[row]

    def targets(numbers: range) -> list[Token]:
        """Return the targets of neighbouring rows of the same group."""
        near = [around[other] for other in numbers if other in around and around[other]["group"] == own["group"]]
        return [token for item in near if (token := _token(item["target"], texts)) is not None]

    top_p, top_q = detail.get("top1_p"), detail.get("top1_q")
    return WorstRow(
        number(value),
        row,
        own["group"],
        targets(range(row - _BEFORE, row)),
        _token(own["target"], texts),
        targets(range(row + 1, row + _AFTER + 1)),
        _token(top_p, texts),
        _token(top_q, texts),
        top_p == top_q,
        _probability(detail.get("log_prob_p")),
        _probability(detail.get("log_prob_q")),
    )


def _token(identifier: int | None, texts: Texts | None) -> Token | None:
    if identifier is None or identifier < 0:
        return None
    if texts is None or identifier >= len(texts):
        return Token(str(identifier), is_text=False)
    return Token(shorten(visible(texts[identifier]), _LONGEST), is_text=True)


def _probability(log_prob: float | None) -> str:
    return "–" if log_prob is None else number(math.exp(log_prob))
