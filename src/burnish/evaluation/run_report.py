"""The report of one training run: scores with intervals, curves, what they say, and the recipe."""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from burnish.errors import RunError
from burnish.evaluation import plots
from burnish.evaluation.folder import DevLine, LossLine, Training
from burnish.evaluation.report import STYLE, probability, signed
from burnish.run import Run, read_json, write_text

GENERAL = "general"  # the evaluation that tells what was forgotten


def write_run_report(folder: Path) -> Path:
    """Write `report.html` into the folder of a finished training run and return its path.

    Raises:
        RunError: the run is not finished.
    """
    run = Run.open(folder)
    manifest = run.manifest
    if manifest["status"] != "finished":
        raise RunError(f"{folder}: this run is not finished; `burnish resume {folder}` goes on with it")
    recipe = (folder / "recipe.yaml").read_text(encoding="utf-8")
    said: Mapping[str, Any] = yaml.safe_load(recipe)
    lines = [*run.lines("log.jsonl")]
    courses = policy_courses(lines)
    training = Training(
        folder.name,
        [LossLine.model_validate({key: line[key] for key in ("step", "of", "loss")}) for line in lines],
        [DevLine.model_validate(line) for line in run.lines("dev.jsonl")],
    )
    evaluations = [
        (path.stem, found)
        for path in sorted((folder / "evaluation").glob("*.json"))
        if path.stem != GENERAL and "scores" in (found := read_json(path))
    ]
    general = read_json(told) if (told := folder / "evaluation" / f"{GENERAL}.json").is_file() else {}
    page = (
        _environment()
        .from_string(_source("run_report.html"))
        .render(
            css=Markup(css := _style()),
            style_hash=b64encode(sha256(css.encode()).digest()).decode(),
            name=folder.name,
            task=said["task"]["kind"],
            model=said["model"],
            method=said["method"]["kind"],
            headline=headline(evaluations, said["task"]["kind"]),
            course=course_words(training, manifest["stopped_early"]),
            manifest=manifest,
            seconds=sum(line["seconds"] for line in run.lines("clock.jsonl")),
            evaluations=[(name.capitalize(), {"gain": None, "advice": (), **found}) for name, found in evaluations],
            general={"sentence": "", "scores": {}, "gain": None, **general},
            picture=Markup(plots.training_panel(training)) if training.log else "",
            policy=Markup(plots.policy_panel(courses, steps=training.log[-1].of)) if courses else "",
            flat=flat_words(lines),
            recipe=recipe,
        )
    )
    write_text(folder / "report.html", page)
    return folder / "report.html"


def policy_courses(lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[float]]]:
    """Return title and numbers of each curve of a model that was trained by reward; none of another model's."""
    if not lines or "reward" not in lines[0]:
        return []
    parts = [name for name in lines[0] if name.startswith("reward/")]
    named = {"reward": "reward a text"}
    named |= {name: f"reward, {name.removeprefix('reward/')} alone" for name in parts if len(parts) > 1}
    named |= {
        "kl": "KL to the model as it was, nats a token",
        "length": "tokens a text",
        "entropy": "entropy, nats a token",
    }
    return [(title, [line[name] for line in lines]) for name, title in named.items() if name in lines[0]]


def flat_words(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return what the log says of groups that taught nothing, or nothing where the model was not trained by reward."""
    if not lines or "flat" not in lines[0]:
        return ""
    flat, drawn = (sum(line[name] for line in lines) / len(lines) for name in ("flat", "drawn"))
    idle = sum(line["flat"] == 1 for line in lines)
    text = f"All texts of a prompt were worth the same in {flat:.0%} of the groups that were kept, which teach nothing"
    text += f"; {drawn:.2f} texts were drawn for each that was trained."
    return f"{text} In {idle} of {len(lines)} steps no group taught anything." if idle else text


def headline(evaluations: Sequence[tuple[str, Mapping[str, Any]]], task: str) -> str:
    """Return the sentence that says what the run reached on the main metric."""
    if not evaluations:
        return f"A model for {task}, trained; the recipe names no test rows, so nothing says how good it is."
    _, found = evaluations[-1]
    label, score = next(iter(found["scores"].items()))
    text = f"{label} {score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}] on {found['n']} rows"
    if found.get("gain"):
        gain = found["gain"][label]
        text += f", {signed(gain['difference'])} against {found['against']} (p {probability(gain['p'])})"
    unsure = {"not better": ": not better by more than chance explains", "worse": ": worse"}
    return text + unsure.get(found.get("outcome", ""), "") + "."


def course_words(training: Training, stopped_early: str) -> str:
    """Return what the curves say: whether it overfits, whether it was still rising, why it ended early."""
    told = f"{stopped_early[:1].upper()}{stopped_early[1:]}." if stopped_early else ""
    if len(training.dev) < 2:
        return told or "The dev rows were scored less than twice, so the curves do not tell whether it overfits."
    best = max(training.dev, key=lambda line: line.value)
    last = training.dev[-1]
    if best.step < last.step and last.value < best.value:
        said = (
            f"The dev score was best at step {best.step} ({best.value:.3f}) and {last.value:.3f} at the end: from "
            "there on it overfits. The weights that were kept are chosen by `training.keep`."
        )
    elif best.step == last.step:
        said = f"The dev score was best at the last step ({best.value:.3f}): more steps may help."
    else:
        said = f"The dev score did not rise any more after step {best.step} ({best.value:.3f})."
    return f"{told} {said}".strip()


def _environment() -> Environment:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"signed": signed, "probability": probability, "duration": plots.duration}
    return environment


def _source(name: str) -> str:
    return resources.files("burnish.evaluation").joinpath(name).read_text(encoding="utf-8")


def _style() -> str:
    """Return the style sheet of the ladder's report, which both share."""
    found = re.search(STYLE, _source("report.html"))
    assert found is not None
    return found[1]
