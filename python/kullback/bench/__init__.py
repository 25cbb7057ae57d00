"""How fast the kernels are on this machine, beside its limits and beside other libraries: ``kullback bench``.

Reading order, which is the order of a run::

    settings.py      what was asked for, and the sizes that fit the memory
      │ draw         data.py         rows of a reference and of a candidate near it
      │ name         kernels.py      the calls to be timed, and what each cannot avoid
      │ check        truth.py        every value against float64 arithmetic that shares no code with the library
      │ probe        machine.py      how fast this machine reads, and computes exponentials
      │ time         timing.py       all contestants in turn, round by round
      │ compare      peers.py        the same by other libraries, where they are installed
      ▼ report       measure.py      one dictionary; shown by table.py and chart.py

The scripts under ``benches/`` measure with the same parts.
"""

from __future__ import annotations

from .checks import WrongValueError
from .measure import measure
from .settings import Settings

__all__ = ["Settings", "WrongValueError", "measure"]
