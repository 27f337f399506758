"""Preferences: your own rows in, pairs of answers out: several drawn for each prompt, best against worst."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from math import fsum
from pathlib import Path
from typing import Any, NamedTuple

from burnish.errors import DataError, RunError
from burnish.generators import Writer
from burnish.models.precision import device_words
from burnish.preference_rows import Preference
from burnish.prepare.preferences import Choice, choose, distinct
from burnish.prepare.synthesize import sample
from burnish.prompt import without_citations
from burnish.rag_rows import RagRow
from burnish.records import Completion, Prompt, dump_jsonl, records_fingerprint
from burnish.retrievers import Progress
from burnish.rewards import Jury, Written
from burnish.run import checksum, locked, read_json, versions, write_json, write_text
from burnish.spec import dump_part
from burnish.steps.fingerprints import part_fingerprint
from burnish.steps.preferences_recipe import Preferences
from burnish.steps.train import Say
from burnish.tables import columns_of, read_rows
from burnish.text import fingerprint

BLOCK = 32  # prompts answered at a time: what a kill loses at most


class _Pair(NamedTuple):
    """A prompt's row, what was chosen of its answers, and the rewards of each answer's text."""

    row: Prompt
    choice: Choice
    rewards: dict[str, dict[str, float]]


def preferences(recipe: Preferences, out: Path, *, say: Say, progress: Progress) -> dict[str, Any]:
    """Make the pairs: they go to OUT; return what NAME.preferences.json holds: settings, counts, fingerprints.

    NAME.answers.jsonl tells of every prompt all its answers with their scores, which of them make the pair, or why
    there is none. Answers and scores stay in the folder NAME.drawn: the same command, killed or with another gap, goes
    on from there.

    Raises:
        RunError: something stands at OUT that this did not write.
        DataError: the rows cannot be read, or no prompt has a pair.
    """
    work = out.with_suffix(".drawn")
    with locked(work):
        _require_ours(out, work)
        began = time.perf_counter()
        rows = _rows(recipe)
        say(f"{recipe.answers} answers to each of {len(rows)} prompts, ranked by {_label(recipe)}")
        found = [*_pairs(recipe, rows, work, progress)]
        pairs = [_preference(pair) for pair in found if not pair.choice.reason]
        reasons = Counter(pair.choice.reason for pair in found if pair.choice.reason)
        if not pairs:
            raise DataError(
                f"{recipe.rows}: no prompt has a pair ({_counted(reasons)}). Draw more answers, raise the writer's "
                "temperature, or lower the gap"
            )
        text = dump_jsonl(pairs)
        told: dict[str, Any] = {
            "settings": recipe.model_dump(mode="json"),
            "writer": dump_part(recipe.writer),
            "rank": _label(recipe),
            "counts": {
                "prompts": len(found),
                "pairs": len(pairs),
                "tied": sum(pair.choice.tied for pair in found if not pair.choice.reason),
                "without": dict(reasons),
            },
            "mean": {
                "chosen": _mean([pair.choice.chosen.score for pair in found if not pair.choice.reason]),
                "rejected": _mean([pair.choice.rejected.score for pair in found if not pair.choice.reason]),
            },
            "fingerprints": {"rows": records_fingerprint(rows), "writer": part_fingerprint(recipe.writer)},
            "seconds": time.perf_counter() - began,
            "device": device_words(),
            "versions": versions(),
        }
        beside = out.with_suffix(".answers.jsonl")
        write_text(beside, "".join(json.dumps(_line(pair), ensure_ascii=False) + "\n" for pair in found))
        write_text(work / "pairs.jsonl", text)
        write_text(out, text)
        write_json(out.with_suffix(".preferences.json"), told)
        return told


def _rows(recipe: Preferences) -> list[Prompt]:
    """Return the prompts with their right answers and passages, of a table of any of three forms.

    Raises:
        DataError: the table cannot be read, or has passages and no prompt to put them by.
    """
    columns = {*recipe.columns, *columns_of(recipe.rows)}
    if {"question", "passages"} <= columns:
        if recipe.prompt is None:
            raise DataError(f"{recipe.rows}: these are questions with passages; say in `prompt` how they are put")
        rows = [recipe.prompt.asked(row) for row in read_rows(recipe.rows, RagRow, recipe.columns)]
    elif recipe.prompt is not None:
        raise DataError(f"{recipe.rows}: these rows have prompts of their own; leave `prompt` out")
    elif "completion" in columns:
        rows = [
            Prompt(id=row.id, group=row.group, prompt=row.prompt, answers=(row.completion, *row.others))
            for row in read_rows(recipe.rows, Completion, recipe.columns)
        ]
    else:
        rows = [*read_rows(recipe.rows, Prompt, recipe.columns)]
    return sample(rows, recipe.limit, seed=recipe.seed)


def _pairs(recipe: Preferences, rows: Sequence[Prompt], work: Path, progress: Progress) -> Iterator[_Pair]:
    """Yield what is chosen for each row; answers and scores that are there already are read."""
    cite = recipe.prompt is not None and recipe.prompt.cite
    ready = _Ready(recipe)
    drawn = fingerprint(part_fingerprint(recipe.writer), str(recipe.answers), records_fingerprint(rows), str(BLOCK))
    ranked = fingerprint(*map(part_fingerprint, recipe.by))
    for place, first in enumerate(range(0, len(rows), BLOCK)):
        block = rows[first : first + BLOCK]

        def draw(block: Sequence[Prompt] = block, first: int = first) -> list[list[str]]:
            prompts: Any = [row.prompt for row in block]
            return ready.writer.sample(
                prompts,
                count=recipe.answers,
                done=lambda done: progress("drawing answers", first + done // recipe.answers, len(rows)),
            )

        texts = _kept(work / drawn / f"{place:06d}.json", draw)
        found = [distinct(some) for some in texts]
        written = [_written(row, text, cite=cite) for row, some in zip(block, found, strict=True) for text, _ in some]
        progress(f"ranking by {_label(recipe)}", first, len(rows))
        kept = _kept(work / drawn / ranked / f"{place:06d}.json", partial(ready.rank, written))
        parts = iter(kept)
        for row, some in zip(block, found, strict=True):
            own = {text: next(parts) for text, _ in some}
            yield _Pair(row, choose(some, [_total(recipe, one) for one in own.values()], gap=recipe.gap), own)


class _Ready:
    """The writer and what ranks, each loaded when it is first needed."""

    def __init__(self, recipe: Preferences) -> None:
        self._recipe = recipe

    @cached_property
    def writer(self) -> Writer:
        return self._recipe.writer.load()

    @cached_property
    def _jury(self) -> Jury:
        return Jury(self._recipe.by)

    def rank(self, texts: Sequence[Written]) -> list[dict[str, float]]:
        """Return each text's rewards by their labels, without weights."""
        return self._jury(texts)


def _kept(path: Path, make: Callable[[], Any]) -> Any:
    """Return what a file holds, made first where there is none."""
    if not path.is_file():
        write_json(path, make())
    return read_json(path)


def _total(recipe: Preferences, parts: dict[str, float]) -> float:
    """Return the weighted sum of one text's rewards."""
    return fsum(reward.weight * parts[reward.label] for reward in recipe.by)


def _label(recipe: Preferences) -> str:
    return " + ".join(reward.label for reward in recipe.by)


def _written(row: Prompt, text: str, *, cite: bool) -> Written:
    """Return an answer as rewards judge it; where answers cite, without the marks."""
    rights = row.answers
    if cite:
        text, rights = without_citations(text), tuple(map(without_citations, rights))
    return Written(row.id, row.prompt, text, rights, row.passages)


def _preference(pair: _Pair) -> Preference:
    row, choice, _ = pair
    return Preference(
        id=row.id, group=row.group, prompt=row.prompt, chosen=choice.chosen.text, rejected=choice.rejected.text
    )


def _line(pair: _Pair) -> dict[str, Any]:
    """Return what is told of a prompt: its answers, best first, and whether the first and the last make a pair."""
    answers = [
        {"text": one.text, "drawn": one.drawn, "score": one.score, "rewards": pair.rewards[one.text]}
        for one in pair.choice.answers
    ]
    outcome = pair.choice.reason or "pair"
    return {"id": pair.row.id, "outcome": outcome, "gap": pair.choice.gap, "tied": pair.choice.tied, "answers": answers}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _counted(reasons: Counter[str]) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in reasons.most_common())


def _require_ours(out: Path, work: Path) -> None:
    """Check that nothing is overwritten but pairs that were written here and nobody changed.

    Raises:
        RunError: something else stands there.
    """
    ours = work / "pairs.jsonl"
    if not out.exists() or (out.is_file() and ours.is_file() and checksum(out) == checksum(ours)):
        return
    raise RunError(
        f"{out}: what stands here was not written by `burnish preferences`, or was changed since; name another --out"
    )
