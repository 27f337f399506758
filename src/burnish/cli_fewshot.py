"""The commands `burnish fewshot` and `burnish meta`: parse, call the step, print."""

from pathlib import Path
from typing import Annotated

import typer

Place = Annotated[Path | None, typer.Option("--run", help="The folder for the run; by default runs/RECIPE.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Change a setting: --set seeds=3. May be repeated.")]


def fewshot(
    recipe: Annotated[Path, typer.Argument(help="The recipe of a comparison, a YAML file.", show_default=False)],
    run: Place = None,
    overrides: Changes = None,
) -> None:
    """Compare ways to learn from a few rows, over several draws and templates; what is finished is reused."""
    from burnish.recipe import read_recipe
    from burnish.steps.fewshot_recipe import FewShots
    from burnish.terminal import Screen, fewshot_table

    settings = read_recipe(recipe, FewShots, overrides or [])
    folder = run or Path("runs") / recipe.stem
    with Screen() as screen:
        from burnish.steps.fewshot import fewshot as step

        found = step(settings, folder, say=screen.say, progress=screen.progress)
    screen.show(fewshot_table(found))
    screen.show(str(folder / "fewshot.json"))


def meta(
    recipe: Annotated[Path, typer.Argument(help="The recipe of many tasks, a YAML file.", show_default=False)],
    run: Place = None,
    overrides: Changes = None,
) -> None:
    """Learn a start from many tasks, for a few rows of an unseen one; what is finished is reused."""
    from burnish.recipe import read_recipe
    from burnish.steps.meta_recipe import Meta
    from burnish.terminal import Screen, meta_table

    settings = read_recipe(recipe, Meta, overrides or [])
    folder = run or Path("runs") / recipe.stem
    with Screen() as screen:
        from burnish.steps.meta import meta as step

        found = step(settings, folder, say=screen.say, progress=screen.progress)
    if found["held_out"]:
        screen.show(meta_table(found))
    screen.show(f"the start is in {folder / 'model'}; a recipe begins with it by `start: {folder / 'model'}`")
