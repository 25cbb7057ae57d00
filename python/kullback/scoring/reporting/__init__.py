"""``kullback report``: a finished scoring run as one page of HTML that needs nothing else.

Data flows one way::

    DIR           what kullback score left
      │ gather    gather.py    the two JSON files, checked, as records
      │ tally     rows.py      the Parquet parts, a batch at a time
      │           tally.py     counts and sums in bins; worst.py: the rows that moved most
      │ put       verdict.py   into sentences; terms.py: what the terms mean
      │           tables.py    into tables; origin.py: files, options, the command
      │ draw      charts.py    into charts, and courses.py; figures.py: matplotlib as SVG in the page's colours
      ▼ lay out   page.py      with templates/page.html and style.css

`build` drives it; `command` is the command line. `words` and `intervals` write numbers and foreign text,
and `scales` the ticks of axes.
"""

from __future__ import annotations

from .build import Report, report

__all__ = ["Report", "report"]
