"""Matplotlib figures as inline SVG that follows the page: its colours, its font, light and dark.

A figure is drawn in stand-in colours, which become CSS variables, so that one picture serves both themes. Text stays
text. Every chart is made twice, for wide and for narrow screens, as letters scaled down are too small to read.
"""

from __future__ import annotations

import io
import math
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .words import shorten, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "CANDIDATE",
    "FAINT",
    "GRID",
    "INK",
    "LINES",
    "MARKERS",
    "MUTED",
    "RASTER",
    "SERIES",
    "Chart",
    "draw",
    "label",
    "new_figure",
    "panels",
]

# Stand-ins, by the CSS variable that each becomes.
_VARIABLES = {
    "#010101": "--ink",
    "#020202": "--muted",
    "#030303": "--grid",
    "#040404": "--faint",
    "#050505": "--accent",
    "#060601": "--series-1",
    "#060602": "--series-2",
    "#060603": "--series-3",
    "#060604": "--series-4",
    "#060605": "--series-5",
}
INK, MUTED, GRID, FAINT, CANDIDATE, *SERIES = _VARIABLES
# Beside the colour, as not everyone sees it and not every printer has it.
MARKERS = ("o", "s", "^", "D", "v")
LINES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)))
# In pictures, which no style sheet reaches: more than 3:1 against either background.
RASTER = (0.22, 0.48, 0.80)

_WIDE, _NARROW = 880, 340
_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_DECIMALS = re.compile(r"(\d\.\d{2})\d+")
_STYLE: dict[Any, Any] = {
    "font.size": 12,
    "axes.labelsize": 12,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.fontsize": 11.5,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may hold dollars
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.minor.visible": False,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.minor.visible": False,
}


@dataclass(frozen=True)
class Chart:
    """A chart as two SVG elements, and what it shows, in words."""

    wide: str
    narrow: str
    label: str


def draw(name: str, text: str, paint: Callable[[int], Figure]) -> Chart:
    """Draw a chart for both widths.

    Parameters
    ----------
    name : str
        Unlike any other chart's; identifiers within the SVG are made from it.
    text : str
        What a reader who cannot see the chart is told.
    paint : callable
        From a width in pixels to the figure.

    Returns
    -------
    Chart
        Ready to stand in a page.
    """
    wide, narrow = (_svg(f"{name}-{width}", text, width, paint) for width in (_WIDE, _NARROW))
    return Chart(wide, narrow, text)


def new_figure(width: int, height: float) -> Figure:
    """Return an empty figure; a unit of its SVG is a pixel and a point."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained", facecolor="none")


def label(name: str, length: int = 26) -> str:
    """Return a foreign name as it can stand in a chart."""
    return shorten(visible(name), length)


@contextmanager
def _quiet_style(salt: str) -> Iterator[None]:
    from matplotlib import rc_context, rcdefaults, rcParams

    with rc_context(), warnings.catch_warnings():
        rcdefaults()  # whatever style the caller has set
        rcParams.update({**_STYLE, "svg.hashsalt": salt})
        # The page's font has letters that matplotlib's own, which only measures, may lack.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _svg(name: str, text: str, width: int, paint: Callable[[int], Figure]) -> str:
    with _quiet_style(name):
        buffer = io.BytesIO()
        paint(width).savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    root = ET.fromstring(buffer.getvalue())
    _strip(root)
    for element in root.iter():
        _restyle(element)
    size = root.get("viewBox", "").split()
    root.attrib.clear()
    root.attrib.update(
        {
            "class": "wide" if width == _WIDE else "narrow",
            "viewBox": " ".join(size),
            "width": size[2],
            "height": size[3],
            "role": "img",
            "aria-label": text,
        }
    )
    return ET.tostring(root, encoding="unicode")


def _strip(root: ET.Element) -> None:
    """Remove what the page has no use for: metadata, a style sheet of its own, names that nothing refers to."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    used = set()
    for element in root.iter():
        for value in element.attrib.values():
            used.update(_REFERENCE.findall(value))
        if element.get(_HREF, "").startswith("#"):
            used.add(element.attrib[_HREF][1:])
    for element in root.iter():
        if element.get("id") not in used:
            element.attrib.pop("id", None)


def _restyle(element: ET.Element) -> None:
    """Put CSS variables for stand-in colours, and two decimals for six; HTML knows SVG without its namespace."""
    element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
    if _HREF in element.attrib:
        element.set("href", element.attrib.pop(_HREF))
    style = element.get("style")
    if style is not None:
        for colour, variable in _VARIABLES.items():
            style = style.replace(colour, f"var({variable})")
        element.set("style", re.sub(r"font-family:[^;]*;?", "", style))
    for attribute in ("d", "x", "y", "points"):
        if attribute in element.attrib:
            element.set(attribute, _DECIMALS.sub(r"\1", element.attrib[attribute]))


def _grid_of(n: int, width: int) -> tuple[int, int]:
    """Return rows and columns for panels of a chart."""
    columns = min(n, 3 if width == _WIDE else 1 if n <= 3 else 2)
    return math.ceil(n / columns), columns


def panels(width: int, n: int, height: int) -> tuple[Figure, list[Axes]]:
    """Return a figure of equal panels with common axes, and the axes in order."""
    n_rows, n_columns = _grid_of(n, width)
    figure = new_figure(width, height * n_rows + 24)
    axes = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).ravel().tolist()
    for unused in axes[n:]:
        unused.set_visible(False)
    for place in axes[max(0, n - n_columns) : n]:
        place.tick_params(labelbottom=True)
    return figure, axes[:n]
