"""The report of a finished ladder: one HTML page that needs nothing beside it, and the ladder as a picture.

What the page shows was written by models and by strangers, so nothing in it is trusted: the template escapes every
value, the page holds no script and no link that data could reach, and its content security policy allows its own style
sheet, known by its hash, and nothing else.
"""

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from burnish.errors import DataError
from burnish.evaluation import plots
from burnish.evaluation.folder import Card, Finished, Kind, Ladder, Quadrants, Rung, read_finished, read_ladder, shown
from burnish.run import write_text

SHOWN_ROWS = 12  # of a list in the data card; the file has all of them
_KINDS: dict[Kind, str] = {"retrieval": "Finding the passages", "answer": "Answering the questions"}
STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_SENTENCE_END = re.compile(r"(?<=[.!?]) +")


@dataclass(frozen=True, slots=True)
class Section:
    """The rungs of one kind, as the page shows them."""

    kind: Kind
    title: str
    metric: str  # the one they are compared on
    metrics: tuple[str, ...]  # all, that one first
    rungs: tuple[Rung, ...]
    picture: Markup
    costs: Markup

    @property
    def best(self) -> Rung:
        """The rung with the highest score."""
        return max(self.rungs, key=lambda rung: rung.scores[self.metric].value)


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the data card; a head of empty texts is not shown."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def write_report(run: Path) -> Path:
    """Write `report.html` into the folder of a finished ladder and return its path; the same folder, the same page.

    Raises:
        DataError: a file of the folder is missing or damaged, or the folder cannot be written to.
    """
    page = _page(read_finished(run))
    path = run / "report.html"
    try:
        write_text(path, page)
    except OSError as error:
        raise DataError(f"{path}: the report cannot be written: {error.strerror}") from error
    return path


def ladder_picture(run: Path) -> str:
    """Return the ladder of a finished run as an SVG file of its own, on white: retrieval left, answers right.

    Raises:
        DataError: `ladder.json` is missing or damaged, or holds no rung.
    """
    ladder = read_ladder(run)
    panels = [(_KINDS[kind], ladder.of_kind(kind), ladder.main[kind]) for kind in _kinds(ladder)]
    if not panels:
        raise DataError(f"{run / 'ladder.json'}: the ladder holds no rung; at least one is needed for a picture")
    return plots.ladder_file(panels)


def _page(finished: Finished) -> str:
    """Return the page as HTML text."""
    source = resources.files("burnish.evaluation").joinpath("report.html").read_text(encoding="utf-8")
    [css] = STYLE.findall(source)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "signed": signed,
        "probability": probability,
        "share": share,
        "size": size,
        "duration": plots.duration,
        "fault": fault,
    }
    headline, *rest = _SENTENCE_END.split(finished.ladder.verdict, maxsplit=1)
    states = [sample.state for sample in finished.samples]
    return environment.from_string(source).render(
        style_hash=b64encode(sha256(css.encode()).digest()).decode(),
        ladder=finished.ladder,
        headline=headline,
        rest="".join(rest),
        sections=_sections(finished.ladder),
        trainings=[(training.name, Markup(plots.training_panel(training))) for training in finished.trainings],
        tables=card_tables(finished.card),
        samples=finished.samples,
        counts={state: states.count(state) for state in ("fixed", "broken", "wrong", "right")},
    )


def _kinds(ladder: Ladder) -> list[Kind]:
    return [kind for kind in _KINDS if ladder.of_kind(kind)]


def _sections(ladder: Ladder) -> list[Section]:
    """Return one section for each kind of rung that the ladder has."""
    longest = max((rung.seconds for rung in ladder.rungs), default=0.0) or 1.0
    found = []
    for kind in _kinds(ladder):
        rungs, metric = ladder.of_kind(kind), ladder.main[kind]
        others = dict.fromkeys(label for rung in rungs for label in rung.scores if label != metric)
        found.append(
            Section(
                kind=kind,
                title=_KINDS[kind],
                metric=metric,
                metrics=(metric, *others),
                rungs=tuple(rungs),
                picture=Markup(plots.ladder_panel(rungs, metric=metric)),
                costs=Markup(plots.cost_panel(rungs, longest=longest)),
            )
        )
    return found


def signed(value: float) -> str:
    """Return a difference with its sign, a true minus and three decimals."""
    return f"{value:+.3f}".replace("-", "−")


def probability(p: float) -> str:
    """Return a p-value with three decimals, or that it is below what they can show."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def share(part: float, whole: float = 1.0) -> str:
    """Return a part of a whole in percent; a dash where there is no whole."""
    return f"{100 * part / whole:.0f} %" if whole else "–"


def size(count: int) -> str:
    """Return a number of weights as a person says it: `0`, `820`, `4.9 M`, `135 M`, `7.2 B`."""
    for unit, factor in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= factor:
            value = count / factor
            return f"{value:.1f} {unit}" if value < 100 else f"{value:,.0f} {unit}"
    return str(count)


def fault(found: Quadrants) -> str:
    """Say in one sentence whether the retriever or the generator is at fault for most wrong answers.

    Wrong with a gold passage shown is the generator's fault; wrong without one, the retriever's.
    """
    generator, retriever = found.retrieved_wrong, found.missed_wrong
    wrong = generator + retriever
    if not found.retrieved_right + found.retrieved_wrong:
        return "No gold passage was shown, so this tells only what the generator knows by itself."
    if not wrong:
        return "No answer is wrong."
    if generator == retriever:
        return f"Retriever and generator are equally at fault: {generator} of {wrong} wrong answers each."
    if generator > retriever:
        return (
            f"Mostly the generator’s fault: {generator} of {wrong} wrong answers came "
            "although the gold passage was in the prompt."
        )
    return f"Mostly the retriever’s fault: {retriever} of {wrong} wrong answers came without the gold passage."


def card_tables(card: Card) -> list[Table]:
    """Return the data card as tables: plain values first, sections with the same keys joined, long lists cut."""
    plain = [(_label(key), _cell(value)) for key, value in card.items() if not _is_table(value)]
    tables = [Table("overview", ("", ""), tuple(plain))] if plain else []
    matrices: dict[tuple[str, ...], list[tuple[str, Mapping[str, Any]]]] = {}
    for key, value in card.items():
        if isinstance(value, Mapping) and value:
            matrices.setdefault(tuple(map(str, value)), []).append((key, value))
        elif _is_table(value):
            tables.append(_list_table(_label(key), value))
    joined = [_joined(keys, named) for keys, named in matrices.items()]
    return tables[: bool(plain)] + joined + tables[bool(plain) :]


def _joined(keys: tuple[str, ...], named: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    """Return one section as key and value, or as a row each the entries with the same keys or several sections."""
    if len(named) > 1:
        rows = tuple((_label(name), *map(_cell, value.values())) for name, value in named)
        return Table("", ("", *map(_label, keys)), rows)
    [(name, value)] = named
    inner = list(value.values())
    if all(isinstance(entry, Mapping) and entry and list(entry) == list(inner[0]) for entry in inner):
        rows = tuple((_label(key), *map(_cell, entry.values())) for key, entry in value.items())
        return Table(_label(name), ("", *map(_label, inner[0])), rows)
    return Table(_label(name), ("", ""), tuple((_label(key), _cell(entry)) for key, entry in value.items()))


def _list_table(title: str, entries: Sequence[Any]) -> Table:
    """Return a list of lists or of objects, a row each, cut after so many."""
    first = entries[:SHOWN_ROWS]
    if all(isinstance(entry, Mapping) and list(entry) == list(first[0]) for entry in first):
        head, rows = tuple(map(_label, first[0])), [tuple(map(_cell, entry.values())) for entry in first]
    else:
        rows = [tuple(map(_cell, entry)) if isinstance(entry, list | tuple) else (_cell(entry),) for entry in first]
        widest = max(map(len, rows))
        head, rows = ("",) * widest, [row + ("",) * (widest - len(row)) for row in rows]
    rest = len(entries) - len(first)
    return Table(title, head, tuple(rows), f"… and {rest:,} more" if rest else "")


def _is_table(value: object) -> bool:
    """Tell whether a value of the card needs a table of its own."""
    if isinstance(value, Mapping):
        return bool(value)
    return isinstance(value, list | tuple) and any(isinstance(entry, list | tuple | Mapping) for entry in value)


def _label(key: object) -> str:
    return shown(str(key)).replace("_", " ")


def _cell(value: object) -> str:
    """Return a plain value as text; a list inside a cell is cut, a dictionary becomes its JSON."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        rest = len(value) - SHOWN_ROWS
        return ", ".join(map(_cell, value[:SHOWN_ROWS])) + (f" … and {rest:,} more" if rest > 0 else "") or "–"
    return shown(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
