"""The command `burnish mine`: parse, call the step, print."""

from pathlib import Path
from typing import Annotated

import typer

from burnish.errors import RecipeError


def mine(
    source: Annotated[Path, typer.Argument(help="A BEIR folder, or a recipe of mining.", show_default=False)],
    retriever: Annotated[
        list[str] | None, typer.Option(help="bm25, or a model: embedded/minilm. May be repeated. By default bm25.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The training rows to write.")] = Path("mined.jsonl"),
    split: Annotated[str | None, typer.Option(help="Whose judgements: qrels/SPLIT.tsv. By default train.")] = None,
    run: Annotated[Path | None, typer.Option("--run", help="Of rounds: the folder; by default runs/SOURCE.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: --set rules.per_question=8. May be repeated.")
    ] = None,
) -> None:
    """Mine hard negatives: training rows, with what each rule left out; with `rounds`, train and mine in turns."""
    from burnish.steps.mine_recipe import read_mine
    from burnish.terminal import Screen, mined_table, rounds_table

    recipe = read_mine(source, retrievers=retriever, split=split, overrides=overrides)
    folder = _folder(run, source, rounds=recipe.rounds is not None)
    with Screen() as screen:
        if recipe.rounds:
            from burnish.steps.rounds import rounds

            found = rounds(recipe, folder, say=screen.say, progress=screen.progress)
        else:
            from burnish.steps.mine import mine as step

            found = step(recipe, out, say=screen.say, progress=screen.progress)
    if recipe.rounds:
        screen.show(rounds_table(found))
        screen.show(found["sentence"])
        screen.show(f"{folder / 'model'} · {folder / 'rounds.json'}" if found["best"] else f"{folder / 'rounds.json'}")
        return
    screen.show(mined_table(found))
    screen.show(f"{out} · {out.with_suffix('.negatives.jsonl')} · {out.with_suffix('.mined.json')}")
    screen.show(f"{out.with_suffix('.mining')} keeps vectors and hits for the next mining, and may be removed")


def _folder(run: Path | None, source: Path, *, rounds: bool) -> Path:
    """Return the folder of rounds.

    Raises:
        RecipeError: one is named, and there are no rounds.
    """
    if run and not rounds:
        raise RecipeError(f"--run {run}: this is the folder of rounds, and the recipe has none; rows go to --out")
    return run or Path("runs") / source.resolve().stem
