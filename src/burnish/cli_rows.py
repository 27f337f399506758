"""Commands that make training rows for a generator or without labels: parse, call the step, print."""

from pathlib import Path
from typing import Annotated

import typer


def ground(
    source: Annotated[
        Path, typer.Argument(help="A BEIR folder, a table in SQuAD's form, or a recipe.", show_default=False)
    ],
    retriever: Annotated[str | None, typer.Option(help="bm25, or a model: embedded/minilm. By default bm25.")] = None,
    out: Annotated[Path, typer.Option(help="The folder to write.")] = Path("rag"),
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: --set prompt.cite=true. May be repeated.")
    ] = None,
) -> None:
    """Make rows that teach a generator to answer from passages: a retriever's own, right ones among them or not."""
    from burnish.steps.ground_recipe import read_ground_recipe
    from burnish.terminal import Screen, grounded_table

    recipe = read_ground_recipe(source, retriever=retriever, overrides=overrides)
    with Screen() as screen:
        from burnish.steps.ground import ground as step

        found = step(recipe, out, say=screen.say, progress=screen.progress)
    screen.show(grounded_table(found))
    rows = " · ".join(str(out / f"{side}.jsonl") for side in found["sides"])
    screen.show(f"{rows} · {out / 'rejected.jsonl'} · {out / 'ground.json'}")


def synthesize(
    corpus: Annotated[Path, typer.Argument(help="A BEIR folder, a ladder's run, or a table of texts.")],
    out: Annotated[Path, typer.Option(help="The BEIR folder to write.", show_default=False)],
    writer: Annotated[str, typer.Option(help="The model that writes the questions.")] = "embedded/smollm2",
    url: Annotated[str, typer.Option(help="The OpenAI-compatible address that offers it; none: this machine.")] = "",
    retriever: Annotated[str, typer.Option(help="With BM25, it must bring the passage back.")] = "embedded/minilm",
    passages: Annotated[int | None, typer.Option(min=1, help="How many are asked about; all if not said.")] = None,
    per_passage: Annotated[int, typer.Option(min=1, max=4, help="Questions for each.")] = 2,
    top_k: Annotated[int, typer.Option(min=1, help="Among so many the passage must come back.")] = 10,
    seed: int = 0,
) -> None:
    """Have a model write questions about passages that nobody has labelled, and keep those that hold up."""
    from burnish.terminal import Screen

    with Screen() as screen:
        from burnish.generators import Generator
        from burnish.prepare.synthesize import Synthesis
        from burnish.retrievers import Retriever
        from burnish.steps.synthesize import questions

        kind = {"kind": "endpoint", "url": url} if url else {"kind": "local", "max_new_tokens": 48}
        dense = {"kind": "dense", "model": retriever}
        found = questions(
            corpus,
            out,
            writer=Generator.read(kind | {"model": writer}),
            retriever=Retriever.read({"kind": "hybrid", "of": ["bm25", dense]}),
            settings=Synthesis(per_passage=per_passage, top_k=top_k),
            passages=passages,
            seed=seed,
            say=screen.say,
            progress=screen.progress,
        )
    counts = ", ".join(f"{count} {side}" for side, count in found["questions"].items())
    screen.show(f"{out}: {counts} questions; whole documents are on one side")


def crops(
    corpus: Annotated[Path, typer.Argument(help="A BEIR folder, a ladder's run, or a table of texts.")],
    out: Annotated[Path, typer.Option(help="The JSONL table to write.", show_default=False)],
    per_passage: Annotated[int, typer.Option(min=1, help="Pairs from each.")] = 1,
    seed: int = 0,
) -> None:
    """Make pairs of pieces of one passage (Contriever): training rows of the task `retrieve`, without any labels."""
    from burnish.prepare.crops import Crops
    from burnish.steps.synthesize import crops as step

    count = step(corpus, out, settings=Crops(per_passage=per_passage), seed=seed, say=typer.echo)
    typer.echo(f"{out}: {count} pairs")


def preferences(
    source: Annotated[
        Path, typer.Argument(help="A table of prompts, or of rows with passages; or a recipe.", show_default=False)
    ],
    writer: Annotated[
        str | None, typer.Option(help="The run or model that answers. By default embedded/smollm2.")
    ] = None,
    by: Annotated[str | None, typer.Option(help="A reward or a metric that ranks. By default token_f1.")] = None,
    answers: Annotated[int | None, typer.Option(min=2, help="Drawn for each prompt. By default 4.")] = None,
    out: Annotated[Path, typer.Option(help="The pairs to write.")] = Path("preferences.jsonl"),
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: --set gap=0.3. May be repeated.")
    ] = None,
) -> None:
    """Make preference pairs from your own rows: several answers to each prompt, the best against the worst."""
    from burnish.steps.preferences_recipe import read_preferences
    from burnish.terminal import Screen

    recipe = read_preferences(source, writer=writer, by=by, answers=answers, overrides=overrides)
    with Screen() as screen:
        from burnish.steps.preferences import preferences as step

        found = step(recipe, out, say=screen.say, progress=screen.progress)
    counts, mean = found["counts"], found["mean"]
    screen.show(f"{counts['pairs']:,} pairs of {counts['prompts']:,} prompts, {counts['tied']:,} with equal answers")
    for reason, count in counts["without"].items():
        screen.show(f"  {count:,} without a pair: {reason}")
    screen.show(f"{found['rank']}: {mean['chosen']:.3f} chosen, {mean['rejected']:.3f} rejected")
    screen.show(f"{out} · {out.with_suffix('.answers.jsonl')} · {out.with_suffix('.preferences.json')}")
