"""The progress of a run: a bar on a terminal, lines elsewhere, nothing if quiet."""

import sys

from kullback.scoring import Progress, progress

STATES = [Progress(0, 100, 0, 4_000_000), Progress(25, 100, 1_000_000, 4_000_000)]


def test_lines_tell_rate_and_time_left(capsys, monkeypatch):
    seconds = iter([100.0, 100.0, 111.0, 112.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    with progress.show_progress(quiet=False) as update:
        for state in (*STATES, STATES[1]):  # the last comes too soon after the one before
            update(state)
    assert capsys.readouterr().err == "scored 25 of 100 rows (25 %), 0.00 GB/s, 0:00:33 left\n"


def test_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with progress.show_progress(quiet=False) as update:
        for state in STATES:
            update(state)
    text = capsys.readouterr().err
    assert "25 %" in text
    assert "25/100 rows" in text
    assert "GB/s" in text


def test_quiet(capsys):
    with progress.show_progress(quiet=True) as update:
        update(STATES[1])
    assert capsys.readouterr() == ("", "")


def test_durations():
    assert [progress._duration(seconds) for seconds in (0, 61, 3723.4)] == ["0:00:00", "0:01:01", "1:02:03"]
