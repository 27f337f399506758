"""Suggest: a table in; a recipe that can be run, its reasons as comments, and the rows it needs, split, out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from burnish import data_hub
from burnish.errors import RecipeError
from burnish.metrics import Metric
from burnish.models.load import load_tokenizer, resolve
from burnish.models.safety import read_settings, transformer_folder
from burnish.models.token_ids import bare_ids
from burnish.prepare.look import Look, look, read_texts
from burnish.prepare.match import Match, match
from burnish.prepare.sides import leaked, sides_of
from burnish.recipe import SIDES, Recipe
from burnish.records import Labelled, Pair, Record, dump_jsonl, raise_faults
from burnish.retrievers import Progress
from burnish.run import new_folder, write_text
from burnish.steps.candidates import blind, bounded, candidates, scored
from burnish.steps.rules import Facts, Lengths, Setting, decide, lengths, shares, task_metric
from burnish.steps.train import Say
from burnish.table_files import Table, read_table
from burnish.tables import read_rows
from burnish.text import printable

SEED = 0
SHOWN = 8  # labels that are told one by one


def suggest(
    data: str, *, models: Sequence[str], columns: Mapping[str, str], out: Path, say: Say, progress: Progress
) -> Path:
    """Look at a table, try models on it, and write a recipe with its rows beside it; return the recipe's path.

    models: beside the embedded ones at hand. columns: field → column, where the names do not tell.

    Raises:
        RecipeError: something stands where the recipe or its rows would go.
    """
    folder = out.with_name(f"{out.stem}-data")
    for taken in (path for path in (out, folder) if path.exists()):
        raise RecipeError(f"{taken}: something stands here, and is not overwritten; name another place with --out")
    progress("reading the table", 0, 1)
    found = match(_table(data), columns)
    rows = read_rows(data, found.record, found.columns)
    progress("looking for what stands twice", 0, 1)
    seen = look(rows)
    said = _told(rows, found, seen)
    for line in said:
        say(line)
    metric = Metric.read(task_metric(found.record, many=seen.many, unbalance=seen.unbalance))
    names = candidates(found.record, models)
    tried = scored(names, rows, seen, metric, seed=SEED, progress=progress)
    lines = [one.line() for one in tried]
    if base := blind(rows, seen, metric, seed=SEED):
        lines.append(f"whoever always says the commonest label: {metric.label} {bounded(base)}")
    sides, moved = sides_of(seen, shares(len(rows)), seed=SEED)
    split = {side: [row for row, at in zip(rows, sides, strict=True) if at == side] for side in SIDES}
    counted = ", ".join(f"{len(split[side]):,} {side}" for side in SIDES)
    lines.append(
        f"split: {counted}; {moved} of them moved to train for a label that it would lack; "
        f"{leaked(seen, sides)} texts of one side stand in another, word for word or nearly"
    )
    for line in lines:
        say(line)
    settings = decide(_facts(split["train"], seen, tried[0].name))
    settings.insert(1, Setting("model", tried[0].name, _why(len(tried), scored=tried[0].score is not None)))
    files = {side: (folder / f"{side}.jsonl").as_posix() for side in SIDES}
    settings.insert(3, Setting("data", files, "rows that are nearly the same stand on one side, and labels in all"))
    Recipe.model_validate({setting.key: setting.value for setting in settings})
    with new_folder(folder) as beside:
        for side in SIDES:
            (beside / f"{side}.jsonl").write_text(dump_jsonl(split[side]), encoding="utf-8")
    write_text(out, _text(data, [*said, *lines], settings))
    return out


def named_columns(said: Sequence[str]) -> dict[str, str]:
    """Return field → column from `text=body`.

    Raises:
        RecipeError: one is written otherwise.
    """
    for one in said:
        if "=" not in one:
            raise RecipeError(f"--column {one}: write it as field=column, for example text=body")
    return dict(one.split("=", 1) for one in said)


def _table(data: str) -> Table:
    """Read a table as it stands.

    Raises:
        DataError: it is missing, or rows cannot be read.
    """
    files = data_hub.fetch_split(data) if data.startswith(data_hub.PREFIX) else [Path(data)]
    bad: list[str] = []
    tables = [read_table(file, bad) for file in files]
    raise_faults(bad)
    columns = dict.fromkeys(column for table in tables for column in table.columns)
    return Table(tuple(columns), [row for table in tables for row in table.rows])


def _told(rows: Sequence[Record], found: Match, seen: Look) -> list[str]:
    """Return what the table holds, a line each."""
    places = ", ".join(f"{field} from {column}" for field, column in found.columns.items())
    scripts = ", ".join(f"{name} {share:.1%}" for name, share in seen.scripts.items())
    lines = [
        f"{len(rows):,} rows of {found.record.__name__}: {places or 'as they stand'}",
        *found.notes,
        f"script: {scripts or 'no letters'}",
        f"{seen.copies:,} rows have the text of an earlier one, {seen.contradictions:,} of them say something else; "
        f"{len(set(seen.units)):,} groups of rows that are nearly the same, or of one group",
    ]
    if seen.labels:
        sizes = seen.labels.balance["all"].lines() if "all" in seen.labels.balance else []
        rest = len(sizes) - 1 - SHOWN
        lines += [*sizes[: SHOWN + 1], *([f"… and {rest:,} smaller labels"] if rest > 0 else [])]
        lines += seen.labels.lines()
    return [_one_line(line) for line in lines]


def _facts(rows: Sequence[Record], seen: Look, model: str) -> Facts:
    """Return what the rules read; lengths are those of the training rows."""
    inner = transformer_folder(resolve(model))
    tokenizer = load_tokenizer(model, inner)
    places = read_settings(inner / "config.json").get("max_position_embeddings") or tokenizer.model_max_length
    special = len(tokenizer("a")["input_ids"]) - len(tokenizer("a", add_special_tokens=False)["input_ids"])
    texts: dict[str, list[str]] = {"text": [text for row in rows for text in read_texts(row)]}
    if isinstance(rows[0], Pair):
        read = [read_texts(row) for row in rows]
        texts = {"query": [row[0] for row in read], "passage": [text for row in read for text in row[1:]]}
    tokens = {name: [len(ids) + special for ids in bare_ids(found, tokenizer)] for name, found in texts.items()}
    measured: dict[str, Lengths] = {name: lengths(found) for name, found in tokens.items()}
    return Facts(
        record=type(rows[0]),
        rows=len(rows),
        many=seen.many and isinstance(rows[0], Labelled),
        unbalance=seen.unbalance,
        lengths=measured,
        tokens=sum(map(sum, tokens.values())),
        room=int(min(places, tokenizer.model_max_length)),
    )


def _why(tried: int, *, scored: bool) -> str:
    """Return why this model is taken."""
    if tried == 1:
        return "the one model at hand"
    return "the smallest within the interval of the best" if scored else "the first that fits the rows"


def _one_line(text: str) -> str:
    """Return a text that comes from data so that it stays in its comment."""
    return " ".join(printable(text).split())


def _text(data: str, found: Sequence[str], settings: Sequence[Setting]) -> str:
    """Return the recipe with what was found and why as comments."""
    lines = [f"# {_one_line(line)}" for line in (f"suggested for {data}", *found)] + [""]
    for setting in settings:
        value: Any = yaml.safe_dump(
            setting.value, sort_keys=False, allow_unicode=True, default_flow_style=True, width=10**6
        )
        lines += [f"# {setting.reason}", f"{setting.key}: {value.removesuffix('...' + chr(10)).strip()}"]
    return "\n".join([*lines, f"seed: {SEED}", ""])
