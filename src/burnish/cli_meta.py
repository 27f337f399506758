"""The command `burnish meta`: parse, call the step, print."""

from pathlib import Path
from typing import Annotated

import typer


def meta(
    recipe: Annotated[Path, typer.Argument(help="The recipe of many tasks, a YAML file.", show_default=False)],
    run: Annotated[Path | None, typer.Option("--run", help="The folder for the run; by default runs/RECIPE.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: --set rounds=50. May be repeated.")
    ] = None,
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
