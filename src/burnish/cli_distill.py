"""The command `burnish distill`: parse, call the step, print."""

from pathlib import Path
from typing import Annotated

import typer


def distill(
    source: Annotated[Path, typer.Argument(help="A table of prompts, or of prompts and completions.")],
    teacher: Annotated[str, typer.Option(help="The model or run that answers.", show_default=False)],
    url: Annotated[str, typer.Option(help="The OpenAI-compatible address that offers it; none: this machine.")] = "",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Of an answer: a cut one would teach half of it.")] = 512,
    limit: Annotated[int | None, typer.Option(min=1, help="Prompts, drawn at random; all if not said.")] = None,
    seed: int = 0,
    out: Annotated[Path, typer.Option(help="The training rows to write.")] = Path("distilled.jsonl"),
) -> None:
    """Have a larger model answer prompts once, as training rows for a smaller one."""
    from burnish.terminal import Screen

    with Screen() as screen:
        from burnish.generators import Generator
        from burnish.steps.distill import distill as step

        folder = Path(teacher) / "model" if (Path(teacher) / "manifest.json").is_file() else Path(teacher)
        kind = {"kind": "endpoint", "url": url, "model": teacher} if url else {"kind": "local", "model": str(folder)}
        found = step(
            source,
            out,
            Generator.read({**kind, "max_new_tokens": max_new_tokens}),
            limit=limit,
            seed=seed,
            say=screen.say,
            progress=screen.progress,
        )
    counts = found["counts"]
    screen.show(f"{counts['rows']:,} rows of {counts['prompts']:,} prompts, {found['words']:.0f} words an answer")
    for reason, count in counts["left out"].items():
        screen.show(f"  {count:,} left out: {reason}")
    screen.show(f"{out} · {out.with_suffix('.rejected.jsonl')} · {out.with_suffix('.distill.json')}")
