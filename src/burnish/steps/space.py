"""The space of a search: which of a recipe's settings are tried, and the recipe that has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from burnish.methods import Method
from burnish.recipe import Recipe

Settings: TypeAlias = Mapping[str, float | int | None]  # learning_rate, batch, and what sizes the method

RATE, BATCH = "learning_rate", "batch"
RATE_SPAN = 10.0  # from a tenth of the method's own rate to ten times it
BATCHES = (8, 16, 32)
SIZES: dict[str, tuple[int, ...]] = {
    "rank": (4, 8, 16, 32),  # LoRA's, with alpha = 2 · rank
    "length": (10, 20, 50, 100),  # of a prefix or a prompt, in tokens
    "reduction": (4, 8, 32),  # of adapters, beside the paper's own, which the recipe has where it says nothing
}


@dataclass(frozen=True, slots=True)
class Space:
    """The bounds of the learning rate (searched by its logarithm), the choices of all else, and the recipe's own."""

    low: float
    high: float
    choices: Mapping[str, tuple[int | None, ...]]
    own: Settings


def space_of(recipe: Recipe, *, rows: int) -> Space:
    """Return what is searched for this recipe; its own settings are always in it.

    rows: of the training side; no batch is tried that they do not fill.
    """
    method, training = recipe.method, recipe.training
    rate, default = training.learning_rate or method.learning_rate, default_rate(method)
    own: dict[str, float | int | None] = {RATE: rate, BATCH: training.batch}
    choices = {BATCH: _with(training.batch, *(batch for batch in BATCHES if batch <= rows))}
    for name in [name for name in SIZES if name in type(method).model_fields]:
        own[name] = size = getattr(method, name)
        choices[name] = _with(size, *SIZES[name])
    return Space(min(rate, default / RATE_SPAN), max(rate, default * RATE_SPAN), choices, own)


def default_rate(method: Method) -> float:
    """Return the learning rate that the method has where a recipe gives none."""
    rest = method.model_dump(mode="json", exclude={RATE})
    return type(method).model_validate(rest).learning_rate


def with_settings(recipe: Recipe, settings: Settings) -> Recipe:
    """Return the recipe with these settings; what is not among them stays, or follows from them.

    LoRA's alpha follows from another rank than the recipe's: twice the rank, or rank-stabilized its default, so that
    the update is as strong at every rank. A rate of the training section would outdo the method's, and goes.
    """
    value = recipe.model_dump(mode="json")
    method, training = value["method"], value["training"]
    method[RATE], training[RATE] = settings[RATE], None
    training[BATCH] = settings.get(BATCH, training[BATCH])
    for name in [name for name in SIZES if name in settings]:
        size = settings[name]
        if name == "rank" and size is not None and size != method[name] and "alpha" in method:
            method["alpha"] = None if method.get("rank_stabilized") else 2 * size
        method[name] = size
    return Recipe.model_validate(value)


def words(settings: Settings) -> str:
    """Return the settings as a person reads them: `learning_rate 0.0005, batch 16, rank 8`."""
    return ", ".join(
        f"{name} {f'{value:.3g}' if isinstance(value, float) else 'default' if value is None else value}"
        for name, value in settings.items()
    )


def _with(own: int | None, *others: int) -> tuple[int | None, ...]:
    """Return the choices in their order, the recipe's own among them."""
    return tuple(sorted({own, *others}, key=lambda choice: choice or 0))
