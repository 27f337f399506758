"""The commands `burnish faithful` and `burnish calibrate`: parse, call the step, print."""

from pathlib import Path
from typing import Annotated

import typer

from burnish.errors import RecipeError


def faithful(
    source: Annotated[
        Path, typer.Argument(help="A table of answers: columns `answer` and `passages`.", show_default=False)
    ],
    model: Annotated[
        str, typer.Option(help="An NLI model or a detector's folder; with --url, the judge. None: by words alone.")
    ] = "",
    url: Annotated[str, typer.Option(help="The OpenAI-compatible address that offers the judge.")] = "",
    columns: Annotated[
        list[str] | None, typer.Option("--column", help="Another column's name: --column passages=context.")
    ] = None,
    seed: int = 0,
    out: Annotated[Path, typer.Option(help="The verdicts to write.")] = Path("verdicts.jsonl"),
) -> None:
    """Hold answers against the passages they were given from, claim by claim."""
    from burnish.failures import in_words
    from burnish.terminal import Screen

    chosen = _grounder(model, url)
    named = dict(column.partition("=")[::2] for column in columns or ())
    with Screen() as screen:
        from burnish.grounding import Grounder
        from burnish.steps.faithful import faithful as step

        found = step(source, out, Grounder.read(chosen), columns=named, seed=seed, progress=screen.progress)
    for name, score in found["scores"].items():
        screen.show(f"{name} {score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}], {score['n']} answers")
    screen.show(f"{found['unsupported']:,} of {found['claims']:,} claims are not supported")
    if found["failures"]:
        screen.show(f"{in_words(found['failures'], found['rows'])} could not be judged; they are in no mean")
    screen.show(f"{out} · {out.with_suffix('.faithful.json')}")


def calibrate(
    run: Annotated[Path, typer.Argument(help="A finished run of the task classify, on pairs.", show_default=False)],
    label: Annotated[str, typer.Option(help="The label that says: the passage bears the answer.", show_default=False)],
    data: Annotated[str | None, typer.Option(help="Rows to choose by; the recipe's dev rows if not said.")] = None,
) -> None:
    """Choose the threshold of a trained detector on dev rows, and keep it beside the model."""
    from burnish.terminal import Screen

    with Screen() as screen:
        from burnish.steps.calibrate import calibrate as step

        found = step(run, label=label, data=data, progress=screen.progress)
    told = f"balanced accuracy {found['balanced_accuracy']:.3f} on the {found['rows']} rows it was chosen on"
    screen.show(f"threshold {found['threshold']:.3f}: {told}")
    screen.show(found["file"])


def _grounder(model: str, url: str) -> dict[str, object]:
    """Return the grounder that the options ask for.

    Raises:
        RecipeError: a server is named, and none of its models.
    """
    if url and not model:
        raise RecipeError("--url names a server, and --model which of its models judges; give both")
    if url:
        return {"kind": "judge", "generator": {"kind": "endpoint", "url": url, "model": model, "max_new_tokens": 1024}}
    return {"kind": "cross_encoder", "model": model} if model else {"kind": "lexical"}
