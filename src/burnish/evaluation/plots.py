"""The report's pictures: matplotlib's drawings as small SVG texts that a page colours for light and dark.

Nothing here depends on the user's matplotlib settings, the date or a random id: same numbers, same text.
"""

import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from xml.etree import ElementTree

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from burnish.evaluation.folder import Rung, Training

# Each colour is a role. The page's style sheet names the same six, to turn them for dark screens.
INK, MUTED, GRID, PLAIN, ACCENT, PAPER = "#1c2430", "#616b78", "#dde1e6", "#5f7188", "#b0472a", "#ffffff"

WIDTH = 5.4  # inches of one panel: 389 units of the picture, so that a telephone shows 9 units as 9 pixels
_ROW = 0.4  # inches a rung takes
_COURSE = 1.3  # inches a curve of a policy takes
_NAME_LETTERS = 62
_POINTS = 600  # of a curve that are drawn; more would not be seen
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_SVG = "{http://www.w3.org/2000/svg}"
_SETTINGS = {
    "svg.fonttype": "none",
    "font.size": 9.5,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "text.parse_math": False,  # names may hold a dollar sign
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
}


def ladder_panel(rungs: Sequence[Rung], *, metric: str) -> str:
    """Draw each rung's score with its interval, as SVG for a page."""
    with _figure(WIDTH, _ladder_height(rungs)) as figure:
        _draw_ladder(_axes(figure, top=0.08, bottom=0.72), rungs, metric)
        _draw_legend(figure, rungs)
        return _svg(figure, f"{metric} of {len(rungs)} rungs with 95 % intervals")


def ladder_file(panels: Sequence[tuple[str, Sequence[Rung], str]]) -> str:
    """Draw panels side by side as an SVG file of its own, on white; each is a title, its rungs and their metric."""
    height = max(_ladder_height(rungs) for _, rungs, _ in panels) + 0.35
    with _figure(WIDTH * len(panels), height) as figure:
        for place, (title, rungs, metric) in enumerate(panels):
            tall = (len(rungs) + 0.1) * _ROW
            axes = _axes(figure, top=0.4, bottom=height - 0.4 - tall, left=WIDTH * place + 0.2, width=WIDTH - 0.4)
            _draw_ladder(axes, rungs, metric)
            axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold", pad=8)
        _draw_legend(figure, [rung for _, rungs, _ in panels for rung in rungs], left=0.2)
        inside = _svg(figure, "The ladder: the score of each rung with its 95 % interval", paper=True)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{inside}\n'


def cost_panel(rungs: Sequence[Rung], *, longest: float) -> str:
    """Draw what each rung took as bars, as SVG for a page; the axis ends at `longest` seconds."""
    with _figure(WIDTH, (len(rungs) + 0.1) * _ROW + 0.12) as figure:
        axes = _axes(figure, top=0.06, bottom=0.06)
        _draw_rows(axes, [rung.name for rung in rungs], [duration(rung.seconds) for rung in rungs])
        for place, rung in enumerate(rungs):
            colour = ACCENT if rung.tuned else PLAIN
            axes.plot([0, longest], [-place - 0.2] * 2, color=GRID, linewidth=4, solid_capstyle="butt")
            axes.plot([0, rung.seconds], [-place - 0.2] * 2, color=colour, linewidth=4, solid_capstyle="butt")
        axes.set_xlim(0, longest)
        axes.set_xticks([])
        return _svg(figure, f"Seconds that {len(rungs)} rungs took")


def training_panel(training: Training) -> str:
    """Draw the loss, thin as it was and smoothed, and the dev scores below it, as SVG for a page."""
    height = 3.5 if training.dev else 2.1
    with _figure(WIDTH, height) as figure:
        steps = [line.step for line in training.log]
        losses = [line.loss for line in training.log]
        every = math.ceil(len(steps) / _POINTS)
        axes = _axes(figure, top=0.28, bottom=height - 1.65, left=0.5, width=WIDTH - 0.62)
        axes.plot(steps[::every], losses[::every], color=PLAIN, linewidth=0.6, alpha=0.45)
        axes.plot(steps[::every], smoothed(losses)[::every], color=INK, linewidth=1.6)
        _dress_curve(axes, "training loss", training.log[-1].of)
        if training.dev:
            axes.tick_params(labelbottom=False)
            axes = _axes(figure, top=2.02, bottom=0.5, left=0.5, width=WIDTH - 0.62)
            _draw_dev(axes, training)
        axes.set_xlabel("step")
        return _svg(figure, f"Loss and dev score while {training.name} was trained")


def policy_panel(courses: Sequence[tuple[str, Sequence[float]]], *, steps: int) -> str:
    """Draw what a policy did step by step as curves one below the other, thin as it was and smoothed, as SVG.

    courses: each a title and one number a step. steps: of the whole run.
    """
    height = _COURSE * len(courses) + 0.25
    with _figure(WIDTH, height) as figure:
        for place, (title, values) in enumerate(courses):
            top = 0.28 + _COURSE * place
            axes = _axes(figure, top=top, bottom=height - top - _COURSE + 0.5, left=0.5, width=WIDTH - 0.62)
            every = math.ceil(len(values) / _POINTS)
            numbers = range(1, len(values) + 1)
            axes.plot(numbers[::every], values[::every], color=PLAIN, linewidth=0.6, alpha=0.45)
            axes.plot(numbers[::every], smoothed(values)[::every], color=ACCENT if not place else INK, linewidth=1.6)
            _dress_curve(axes, title, steps)
            axes.margins(y=0.12)
            axes.tick_params(labelbottom=place == len(courses) - 1)
        axes.set_xlabel("step")
        return _svg(figure, f"What the model that writes did over {steps} steps")


def scatter_file(points: Sequence[tuple[float, float, float, float, str]], *, across: str, up: str) -> str:
    """Draw named points with their intervals, on a logarithmic axis across, as an SVG file of its own, on white.

    points: each (x, y, low, high, name), x above 0.
    """
    with _figure(WIDTH * 1.2, 3.6) as figure:
        axes = _axes(figure, top=0.3, bottom=0.55, left=0.6, width=WIDTH * 1.2 - 1.1)
        for x, y, low, high, name in points:
            axes.plot([x, x], [low, high], color=PLAIN, linewidth=1.4, solid_capstyle="butt")
            axes.plot([x], [y], color=ACCENT, marker="D", markersize=5)
            axes.annotate(name, (x, y), xytext=(7, 0), textcoords="offset points", verticalalignment="center")
        axes.set_xscale("log")
        axes.margins(x=0.12, y=0.08)
        axes.grid(axis="both")
        axes.tick_params(length=0)
        axes.set_xlabel(across)
        axes.set_title(up, loc="left", fontsize=9.5, color=INK, pad=5)
        inside = _svg(figure, f"{up} against {across}", paper=True)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{inside}\n'


def curve_file(
    points: Sequence[tuple[float, float, float, float]],
    *,
    line: Sequence[tuple[float, float]],
    doubled: tuple[float, float, float, float] | None,
    title: str,
) -> str:
    """Draw a learning curve over a logarithmic axis of training rows as an SVG file of its own, on white.

    points: each (rows, value, low, high). line: (rows, value) of the law through them, and `doubled` where it leads at
    twice the rows; both empty where no law is known.
    """
    with _figure(WIDTH * 1.1, 3.4) as figure:
        axes = _axes(figure, top=0.34, bottom=0.76, left=0.55, width=WIDTH * 1.1 - 0.8)
        axes.plot(*zip(*(line or [(points[0][0], points[0][1])]), strict=True), color=MUTED, linewidth=1)
        marks = [(point, PLAIN, "o", 5.5) for point in points] + ([(doubled, ACCENT, "D", 4.5)] if doubled else [])
        for (rows, value, low, high), colour, marker, large in marks:
            axes.plot([rows, rows], [low, high], color=colour, linewidth=1.6, marker="_", markersize=8)
            axes.plot([rows], [value], color=colour, marker=marker, markersize=large)
        axes.set_xscale("log")
        sizes = [mark[0][0] for mark in marks]
        axes.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axes.margins(x=0.06, y=0.1)
        axes.grid(axis="y")
        axes.tick_params(length=0)
        axes.spines["bottom"].set_visible(True)
        axes.set_title(title, loc="left", fontsize=9.5, color=INK, pad=6)
        axes.set_xlabel("training rows")
        legend = [Line2D([], [], color=PLAIN, marker="o", markersize=5.5, linewidth=1.6, label="measured")]
        if doubled:
            legend.append(Line2D([], [], color=MUTED, linewidth=1, label="power law"))
            legend.append(Line2D([], [], color=ACCENT, marker="D", markersize=4.5, label="if the rows were doubled"))
        _draw_marks(figure, legend, left=0.2)
        inside = _svg(figure, f"{title} against training rows, with 95 % intervals", paper=True)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{inside}\n'


def smoothed(values: Sequence[float]) -> list[float]:
    """Return the mean of each value and its neighbours, about 1/15 of all; at the ends, of those that there are."""
    sums = [0.0, *accumulate(values)]
    wing = max(1, len(values) // 30)
    ends = [(max(0, place - wing), min(len(values), place + wing + 1)) for place in range(len(values))]
    return [(sums[last] - sums[first]) / (last - first) for first, last in ends]


def duration(seconds: float) -> str:
    """Return seconds as a person says them: `0.42 s`, `38 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds >= 0.01 else "< 0.01 s" if seconds else "0 s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def _ladder_height(rungs: Sequence[Rung]) -> float:
    return (len(rungs) + 0.1) * _ROW + 0.8


def _draw_ladder(axes: Axes, rungs: Sequence[Rung], metric: str) -> None:
    scores = [rung.scores[metric] for rung in rungs]
    _draw_rows(axes, [rung.name for rung in rungs], [f"{score.value:.3f}" for score in scores])
    for place, (rung, score) in enumerate(zip(rungs, scores, strict=True)):
        colour, marker = (ACCENT, "D") if rung.tuned else (PLAIN, "o")
        axes.plot([score.low, score.high], [-place - 0.2] * 2, color=colour, linewidth=1.8, solid_capstyle="butt")
        axes.plot([score.value], [-place - 0.2], color=colour, marker=marker, markersize=5 if rung.tuned else 5.5)
        if rung.ceiling is not None:
            axes.plot([rung.ceiling] * 2, [-place - 0.36, -place - 0.04], color=INK, linewidth=1)
    ends = [score.high for score in scores] + [rung.ceiling or 0.0 for rung in rungs]
    low = min(0.0, *(score.low for score in scores))
    axes.set_xlim(low, low + (max([*ends, 0.05]) - low) * 1.03)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.grid(axis="x")
    axes.tick_params(length=0)
    axes.set_xlabel(metric)


def _draw_rows(axes: Axes, names: Sequence[str], values: Sequence[str]) -> None:
    """Give each row its name above what will be drawn, and its value at the right end."""
    for place, (name, value) in enumerate(zip(names, values, strict=True)):
        cut = name if len(name) <= _NAME_LETTERS else name[: _NAME_LETTERS - 1] + "…"
        # On paper of their own, so that no grid line runs through them.
        paper = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.2}
        left = axes.text(0, -place + 0.2, cut, bbox=paper)
        right = axes.text(1, -place + 0.2, value, bbox=paper, horizontalalignment="right", fontweight="bold")
        for text in (left, right):
            text.set_transform(axes.get_yaxis_transform())
            text.set_verticalalignment("center")
    axes.set_ylim(-len(names) + 0.5, 0.6)
    axes.set_yticks([])


def _draw_legend(figure: Figure, rungs: Sequence[Rung], *, left: float = 0.0) -> None:
    marks = [Line2D([], [], color=PLAIN, marker="o", markersize=5.5, linewidth=1.8, label="as it is")]
    if any(rung.tuned for rung in rungs):
        marks.append(Line2D([], [], color=ACCENT, marker="D", markersize=5, linewidth=1.8, label="fine-tuned"))
    if any(rung.ceiling is not None for rung in rungs):
        marks.append(
            Line2D([], [], color=INK, marker="|", markersize=9, linestyle="", label="ceiling: gold passage shown")
        )
    _draw_marks(figure, marks, left=left)


def _draw_marks(figure: Figure, marks: Sequence[Line2D], *, left: float) -> None:
    """Say below the picture what each mark stands for."""
    width, height = figure.get_size_inches()
    figure.legend(
        handles=marks,
        loc="lower left",
        bbox_to_anchor=(left / width, 0.02 / height),
        ncols=len(marks),
        frameon=False,
        borderpad=0,
        borderaxespad=0,
        handlelength=1.8,
        handletextpad=0.6,
        columnspacing=1.6,
        labelcolor=MUTED,
    )


def _draw_dev(axes: Axes, training: Training) -> None:
    metric = training.dev[0].metric
    points = [(line.step, line.value) for line in training.dev if line.metric == metric]
    best = max(points, key=lambda point: point[1])
    axes.plot(*zip(*points, strict=True), color=PLAIN, linewidth=0.9, marker="o", markersize=4)
    axes.plot(*best, color=ACCENT, marker="D", markersize=5.5)
    _dress_curve(axes, f"dev {metric}, best {best[1]:.3f} at step {best[0]:,}", training.log[-1].of)
    axes.margins(y=0.18)


def _dress_curve(axes: Axes, title: str, steps: int) -> None:
    axes.set_title(title, loc="left", fontsize=9.5, color=INK, pad=5)
    axes.set_xlim(0, steps * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.grid(axis="y")
    axes.tick_params(length=0)
    axes.spines["bottom"].set_visible(True)


@contextmanager
def _figure(width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure of so many inches; what is drawn in the block follows our settings alone."""
    with style.context(["default", _SETTINGS]), warnings.catch_warnings():
        # The viewer's fonts draw the letters; matplotlib's own only measure them, and need not have them all.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield Figure(figsize=(width, height), facecolor="none")


def _axes(figure: Figure, *, top: float, bottom: float, left: float = 0.0, width: float = WIDTH) -> Axes:
    """Return axes without a frame; the margins and the width are in inches."""
    wide, high = figure.get_size_inches()
    axes = figure.add_axes((left / wide, bottom / high, width / wide, (high - top - bottom) / high), facecolor="none")
    axes.spines[:].set_visible(False)
    axes.set_axisbelow(True)
    return axes


def _svg(figure: Figure, label: str, *, paper: bool = False) -> str:
    """Return the figure as one `<svg>` element that needs no style sheet and shares no id with another picture.

    Styles become plain attributes, which a strict content security policy allows and a page's style sheet overrides.
    """
    drawn = io.StringIO()
    with style.context({"svg.hashsalt": label}):
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(drawn.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in {f"{_SVG}metadata", f"{_SVG}style"}:
                parent.remove(child)
    for element in root.iter():
        _simplify(element)
    size = root.attrib["viewBox"].split()[2:]
    root.attrib.clear()
    root.attrib |= {"viewBox": f"0 0 {size[0]} {size[1]}", "role": "img", "aria-label": label}
    root.attrib |= {"font-family": _FONTS, "stroke-linejoin": "round"}
    if paper:
        root.attrib |= {"width": size[0], "height": size[1]}
        root.insert(0, ElementTree.Element(f"{_SVG}rect", {"width": "100%", "height": "100%", "fill": PAPER}))
    ElementTree.register_namespace("", _SVG[1:-1])
    return ElementTree.tostring(root, encoding="unicode")


def _simplify(element: ElementTree.Element) -> None:
    """Change an element in place: style to attributes, no id on a group, no line breaks between elements."""
    attributes = dict(element.attrib)
    element.attrib.clear()
    for name, value in attributes.items():
        if name == "style":
            pairs = (pair.split(":", 1) for pair in value.split(";"))
            element.attrib |= {key.strip(): it.strip() for key, it in pairs if key.strip() != "font-family"}
        elif name.endswith("}href"):
            element.attrib["href"] = value
        elif name != "id" or element.tag != f"{_SVG}g":
            element.attrib[name] = re.sub(r"\s+", " ", value).strip()
    if element.tag != f"{_SVG}text":
        element.text = None
    element.tail = None
