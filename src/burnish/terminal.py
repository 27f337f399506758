"""What a person sees in the terminal: progress with time left, a line for what happened, tables at the end."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from burnish.evaluation.compare import gap_text
from burnish.evaluation.trade import HEADINGS, cells
from burnish.run import read_json
from burnish.text import printable


class Screen:
    """Draws progress while steps run. Everything that comes from data is shown as plain text."""

    def __init__(self) -> None:
        """Draw nothing yet; use it as a context."""
        follows = os.environ.get("RANK", "0") != "0"  # of several processes that train, the first one speaks
        self._console = Console(highlight=False, quiet=follows)
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._what = ""

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bars away."""
        self._bars.stop()

    def say(self, line: str) -> None:
        """Print one line above the bars."""
        self._console.print(Text(printable(line)), overflow="fold")

    def progress(self, what: str, done: int, of: int) -> None:
        """Show how far the current piece of work is; a new piece takes the place of the one before.

        what: the piece, and behind ` · ` how it stands, which changes while it lasts.
        """
        piece = what.partition(" · ")[0]
        if piece != self._what or self._task is None:
            if self._task is not None:
                self._bars.remove_task(self._task)
            self._what, self._task = piece, self._bars.add_task(what, total=of or None)
        self._bars.update(self._task, completed=done, total=of or None, description=what)

    def show(self, what: RenderableType) -> None:
        """Print a result."""
        self._console.print(Text(printable(what)) if isinstance(what, str) else what)


def ladder_table(ladder: Mapping[str, Any]) -> Table:
    """Return the ladder as a table: value and interval, paired difference to the rung before, cost."""
    table = Table(title=Text(f"{ladder['name']}: what each rung gains"), title_justify="left", show_lines=False)
    for heading, side in (("rung", "left"), ("score", "left"), ("n", "right"), ("against the rung before", "left")):
        table.add_column(heading, justify=side)  # type: ignore[arg-type]
    table.add_column("p", justify="right")
    table.add_column("seconds", justify="right")
    table.add_column("trained", justify="right")
    kind = ""
    for rung in ladder["rungs"]:
        if kind and rung["kind"] != kind:
            table.add_section()
        kind = rung["kind"]
        label = ladder["main"][kind]
        score, versus = rung["scores"][label], rung["versus"]
        table.add_row(
            Text(rung["name"]),
            f"{label} {score['value']:.3f} \\[{score['low']:.3f}, {score['high']:.3f}]",
            str(score["n"]),
            f"{versus['difference']:+.3f} \\[{versus['low']:+.3f}, {versus['high']:+.3f}]" if versus else "",
            f"{versus['p']:.4f}" if versus else "",
            f"{rung['seconds']:.0f}",
            f"{rung['trainable']:,}" if rung["trainable"] else "",
        )
    return table


def evaluation_table(found: Mapping[str, Any]) -> Group:
    """Return an evaluation as a table, every metric with its interval, and what a comparison says in words below it."""
    table = Table(title=Text(f"{found['data']}: {found['n']} rows"), title_justify="left")
    for heading in ("metric", "value", *(["before", "gain", "p"] if found.get("gain") else [])):
        table.add_column(heading)
    for label, score in found["scores"].items():
        cells = [label, _bounded(score)]
        if found.get("gain"):
            gain = found["gain"][label]
            cells += [_bounded(found["before"][label]), gap_text(gain), f"{gain['p']:.4f}"]
        table.add_row(*map(Text, cells))
    words = [found["verdict"], *_advice_lines(found.get("advice", ()))] if "verdict" in found else []
    return Group(table, *map(Text, words))


def show_run(screen: Screen, folder: Path, report: Path) -> None:
    """Print what a finished run reached on its test rows, and where its model and its report are."""
    test = folder / "evaluation" / "test.json"
    if test.is_file():
        screen.show(evaluation_table(read_json(test)))
    screen.show(f"the model is in {folder / 'model'}, and what it reached in {report}")


def ladder_words(ladder: Mapping[str, Any]) -> str:
    """Return what the ladder says of its rungs, and what may help where one was not better."""
    return "\n".join([ladder["verdict"], *_advice_lines(ladder["advice"])])


def _advice_lines(advice: Sequence[str]) -> list[str]:
    """Return what may help, a line each."""
    return ["What may help:", *(f"  {line}" for line in advice)] if advice else []


def fewshot_table(found: Mapping[str, Any]) -> Table:
    """Return a few-shot comparison as a table."""
    title = f"{found['model']}: {found['test']} test rows, accuracy over draws and templates"
    table = Table(title=Text(title), title_justify="left")
    headings = ("method", "start", "rows", "accuracy", "median", "worst … best", "to no start", "to in context", "KB")
    for heading in headings:
        table.add_column(heading)
    for row in found["rows"]:
        spread = f"{row['worst']:.3f} … {row['best']:.3f}"
        gains = [gap_text(row["gain"][name]) if name in row["gain"] else "" for name in ("no start", "in context")]
        size = f"{row['kilobytes']:,.0f}" if row["kilobytes"] else ""
        cells = (row["method"], row["start"], str(row["shots"]), _bounded(row), f"{row['median']:.3f}", spread)
        table.add_row(*map(Text, (*cells, *gains, size)))
    return table


def meta_table(found: Mapping[str, Any]) -> Table:
    """Return how held-out tasks are ranked without a row of theirs: by the model as it is, and with the start."""
    table = Table(title=Text("tasks held out, no row of theirs seen"), title_justify="left")
    for heading in ("task", "rows", "metric", "as it is", "with the start", "gain"):
        table.add_column(heading)
    for name, tried in found["held_out"].items():
        for metric, score in tried["after"].items():
            cells = (_bounded(tried["before"][metric]), _bounded(score), gap_text(tried["gain"][metric]))
            table.add_row(*map(Text, (name, str(tried["rows"]), metric, *cells)))
    return table


def methods_table(found: Mapping[str, Any]) -> Table:
    """Return a comparison of methods as a table."""
    table = Table(title=Text(f"{found['task']}, {found['model']}"), title_justify="left")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("method", "score") else "right")
    for row in found["rows"]:
        table.add_row(*map(Text, cells(row)))
    return table


def tune_table(found: Mapping[str, Any]) -> Table:
    """Return a search, or a probe, as a table: every trial with its settings, and the best one marked."""
    title = f"{'probe' if found['kind'] == 'probe' else 'search'} by dev {found['metric']} of {found['dev_rows']} rows"
    table = Table(title=Text(title), title_justify="left")
    names = list(found["trials"][0]["settings"])
    for heading in ("trial", *names, "dev", "state", "seconds"):
        table.add_column(heading, justify="left" if heading == "state" else "right")
    for trial in found["trials"]:
        mark = "*" if trial["trial"] == found["best"] else ""
        settings = ["default" if value is None else f"{value:g}" for value in trial["settings"].values()]
        dev = "" if trial["dev"] is None else f"{trial['dev']:.3f}"
        cells = [f"{mark}{trial['trial']}", *settings, dev, trial["state"], f"{trial['seconds']:.0f}"]
        table.add_row(*map(Text, cells))
    return table


def curve_table(found: Mapping[str, Any]) -> Table:
    """Return a learning curve as a table: every share of the rows with its scores."""
    table = Table(title=Text(f"learning curve on {found['test_rows']} test rows"), title_justify="left")
    labels = list(found["points"][0]["scores"])
    for heading in ("share", "rows", "steps", *labels, "seconds"):
        table.add_column(Text(heading), justify="left" if heading in labels else "right")
    for point in found["points"]:
        scores = [_bounded(point["scores"][label]) for label in labels]
        cells = [f"{point['share']:g} %", f"{point['rows']:,}", f"{point['steps']:,}", *scores]
        table.add_row(*map(Text, [*cells, f"{point['seconds']:.0f}"]))
    return table


def mined_table(found: Mapping[str, Any]) -> Table:
    """Return what a mining left out, rule by rule, and what it kept."""
    counts = found["counts"]
    title = f"{counts['negatives']:,} negatives for {counts['questions']:,} questions"
    table = Table(title=Text(title), title_justify="left")
    table.add_column("of the hits that were looked at, left out because the passage")
    table.add_column("hits", justify="right")
    for reason, count in found["dropped"].items():
        if count:
            table.add_row(Text(reason), f"{count:,}")
    table.add_section()
    for name, count in found["found_by"].items():
        table.add_row(Text(f"kept, found by {name}"), f"{count:,}")
    table.add_section()
    table.add_row(f"questions with fewer than {found['per_question']} negatives", f"{counts['short']:,}")
    table.add_row("questions without any", f"{counts['without']:,}")
    table.add_row("questions none of whose right passages was found", f"{counts['unfound']:,}")
    return table


def grounded_table(found: Mapping[str, Any]) -> Table:
    """Return how the rows of each side were made, and why questions have none."""
    sides = found["sides"]
    table = Table(title=Text("rows by what was done with the passages"), title_justify="left")
    table.add_column("")
    for side in sides:
        table.add_column(side, justify="right")

    def line(name: str, counts: Sequence[int]) -> None:
        if any(counts):
            table.add_row(Text(name), *(f"{count:,}" for count in counts))

    for key, before in (("ways", ""), ("rejected", "no row: "), ("left_out", "hits taken out of rows: ")):
        names = dict.fromkeys(name for told in sides.values() for name in told[key])
        for name in names:
            line(before + name, [told[key].get(name, 0) for told in sides.values()])
        table.add_section()
    line("rows", [told["rows"] for told in sides.values()])
    return table


def rounds_table(found: Mapping[str, Any]) -> Table:
    """Return rounds of mining and training as a table, the best one marked."""
    table = Table(title=Text(f"rounds, by dev {found['metric']}"), title_justify="left")
    headings = ("round", "negatives", "left out", "too few", "dev", "against the round before", "p", "seconds")
    for heading in headings:
        table.add_column(heading, justify="left" if heading.startswith(("dev", "against")) else "right")
    for told in found["rounds"]:
        counts, gain = told.get("counts", {}), told["gain"]
        mark = "*" if told["round"] == found["best"] else ""
        cells = [f"{mark}{told['round'] or 'base'}"]
        left_out = sum(told["dropped"].values()) if counts else 0
        numbers = (counts["negatives"], left_out, counts["short"]) if counts else ()
        cells += [f"{number:,}" for number in numbers] or ["", "", ""]
        cells += [_bounded(told["dev"])]
        cells += [gap_text(gain) if gain else ""]
        cells += [f"{gain['p']:.4f}" if gain else "", f"{sum(told['seconds'].values()):.0f}"]
        table.add_row(*map(Text, cells))
    return table


def _bounded(score: Mapping[str, float]) -> str:
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


def answer_text(answer: Mapping[str, Any]) -> str:
    """Return an answer and the passages it rests on, those that the answer names marked."""
    lines = [answer["text"], ""] if answer["text"] else []
    for place, passage in enumerate(answer["passages"], start=1):
        mark = "*" if passage["cited"] else " "
        lines.append(f"{mark}[{place}] {passage['title'] or passage['id']}  ({passage['source']})")
        lines += [f"      {line}" for line in passage["text"].splitlines()[:3]]
    return "\n".join(lines)
