"""List: what a recipe may name."""

import importlib

from burnish.errors import RecipeError, near_miss
from burnish.spec import Part

FAMILIES = {
    "generators": "Generator",
    "losses": "Loss",
    "methods": "Method",
    "metrics": "Metric",
    "readers": "Reader",
    "retrievers": "Retriever",
    "tasks": "Task",
}


def parts(family: str) -> list[tuple[str, str]]:
    """Return the name and the first line of every member of a family.

    Raises:
        RecipeError: there is no such family.
    """
    if family not in FAMILIES:
        raise RecipeError(
            f"there is no family {family!r}.{near_miss(family, FAMILIES)} There are: {', '.join(FAMILIES)}"
        )
    base: type[Part] = getattr(importlib.import_module(f"burnish.{family}"), FAMILIES[family])
    return [(name, base.named(name).summary()) for name in base.names()]
