"""A search and a probe at tiny size: what they find, how they go on after a stop, what they leave behind."""

import random
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tiny
from burnish.cli import app
from burnish.errors import DivergedError, RecipeError, RunError
from burnish.methods import Method
from burnish.recipe import Recipe, read_recipe
from burnish.records import Labelled, dump_jsonl
from burnish.run import Run, read_json
from burnish.steps.probe import probe
from burnish.steps.space import default_rate, space_of, with_settings
from burnish.steps.study import Study
from burnish.steps.train import Pruned, resume, train, trained
from burnish.steps.tune import tune

TRIALS = 6


def quiet(*_: Any) -> None:
    """Hear what a step says, and show nothing."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recipe whose own rate, the method's, is far too low for the few steps that it makes."""
    folder = tmp_path_factory.mktemp("pets")
    draw = random.Random(0)
    tiny.tiny_bert(folder / "bert")
    for side, count in (("train", 64), ("dev", 60), ("test", 20)):
        rows = [
            Labelled(id=f"{side}{row}", text=f"{tiny.sentence(draw, 3)} {pet} {tiny.sentence(draw, 2)}", label=pet)
            for row, pet in enumerate(["cat", "dog"] * (count // 2))
        ]
        (folder / f"{side}.jsonl").write_text(dump_jsonl(rows), encoding="utf-8")
    path = folder / "recipe.yaml"
    path.write_text(
        f"""
task: classify
model: {folder / "bert"}
method: full
data: {{train: {folder / "train.jsonl"}, dev: {folder / "dev.jsonl"}, test: {folder / "test.jsonl"}}}
training: {{epochs: 3, batch: 8, precision: fp32, evaluations: 3, dropout: 0.0, checkpoint_every: 2}}
""",
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="module")
def tuned(path: Path) -> tuple[Path, dict[str, Any]]:
    """Search once, from beginning to end."""
    folder = path.parent / "run"
    return folder, tune(read_recipe(path, Recipe), folder, trials=TRIALS, say=quiet, progress=quiet)


def best_of(found: dict[str, Any]) -> dict[str, Any]:
    return next(trial for trial in found["trials"] if trial["trial"] == found["best"])


def test_a_better_rate_is_found(tuned: tuple[Path, dict[str, Any]]) -> None:
    folder, found = tuned
    own, best = found["trials"][0], best_of(found)
    assert own["settings"] == {"learning_rate": 5e-5, "batch": 8}
    assert best["settings"]["learning_rate"] > 1.5e-4
    assert best["dev"] > own["dev"] + 0.1
    assert found["sentence"].startswith(f"Trial {found['best']} is the best of 6: dev accuracy {best['dev']:.3f}")
    assert read_json(folder / "tune.json") == found


def test_each_trial_is_a_run_without_test_rows_and_the_best_alone_keeps_its_model(
    tuned: tuple[Path, dict[str, Any]],
) -> None:
    folder, found = tuned
    for trial in found["trials"]:
        run = Run.open(folder / "trials" / f"{trial['trial']:03d}")
        assert run.manifest["status"] == trial["state"]
        assert trial["state"] in ("finished", "pruned")
        assert not (run.folder / "evaluation").exists()
        assert not (run.folder / "checkpoints").exists()
        assert (run.folder / "model").is_dir() == (trial["trial"] == found["best"])
        assert trial["seconds"] > 0


def test_the_best_recipe_trains_as_it_is(tuned: tuple[Path, dict[str, Any]], path: Path, tmp_path: Path) -> None:
    folder, found = tuned
    recipe = read_recipe(folder / "best.yaml", Recipe)
    assert recipe.data == read_recipe(path, Recipe).data
    assert recipe.method.learning_rate == best_of(found)["settings"]["learning_rate"]
    assert recipe.training.batch == best_of(found)["settings"]["batch"]
    run = train(recipe, tmp_path / "best", say=quiet, progress=quiet)
    assert run.manifest["best"] == best_of(found)["dev"]
    assert (run.folder / "evaluation" / "test.json").is_file()


def test_a_search_that_broke_off_goes_on_to_the_same_end(
    tuned: tuple[Path, dict[str, Any]], path: Path, tmp_path: Path
) -> None:
    def breaks(what: str, done: int, of: int) -> None:
        if what == "trial 2 of 6: training (classify)" and done == 5:
            raise RuntimeError("broken off")

    recipe = read_recipe(path, Recipe)
    with pytest.raises(RuntimeError, match="broken off"):
        tune(recipe, tmp_path, trials=TRIALS, say=quiet, progress=breaks)
    first = (tmp_path / "trials" / "001" / "manifest.json").stat().st_mtime_ns
    with (tmp_path / "journal.jsonl").open("a") as journal:
        journal.write('{"op_code": 4, "wor')  # the line that a killed process was writing, and its lock
    (tmp_path / "journal.jsonl.lock").touch()
    said: list[str] = []
    found = tune(recipe, tmp_path, trials=TRIALS, say=said.append, progress=quiet)
    assert (tmp_path / "trials" / "001" / "manifest.json").stat().st_mtime_ns == first
    assert next(line for line in said if "trial 2" in line).endswith("(goes on after step 4)")
    assert not any("trial 1" in line for line in said)
    whole = tuned[1]
    assert [{**trial, "seconds": 0} for trial in found["trials"]] == [
        {**trial, "seconds": 0} for trial in whole["trials"]
    ]
    assert found["best"] == whole["best"]


def test_a_finished_search_is_read_back_and_more_trials_go_on_from_it(
    path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    recipe = read_recipe(path, Recipe, ["training.epochs=1"])
    first = tune(recipe, tmp_path, trials=1, say=said.append, progress=quiet)
    assert first["sentence"].startswith("The recipe as it is was not beaten in 1 trial: dev accuracy ")
    assert tune(recipe, tmp_path, trials=1, say=said.append, progress=quiet) == first
    assert sum(line.startswith("▸") for line in said) == 1
    said.clear()
    more = tune(recipe, tmp_path, trials=3, say=said.append, progress=quiet)
    assert more["trials"][0] == first["trials"][0]
    assert len(more["trials"]) == 3
    assert sum(line.startswith("▸") for line in said) == 2
    assert len(said) == len(set(said))  # what trainings have in common is said once
    with pytest.raises(RunError, match="begun with another recipe or other rows"):
        tune(read_recipe(path, Recipe), tmp_path, trials=2, say=quiet, progress=quiet)
    out, err = capfd.readouterr()
    assert out + err == ""  # Optuna keeps quiet


def test_a_trial_that_broke_off_before_its_first_checkpoint_starts_anew(path: Path, tmp_path: Path) -> None:
    def breaks(what: str, done: int, of: int) -> None:
        if "training" in what and done == 1:
            raise RuntimeError("broken off")

    recipe = read_recipe(path, Recipe, ["training.epochs=1"])
    with pytest.raises(RuntimeError, match="broken off"):
        tune(recipe, tmp_path, trials=1, say=quiet, progress=breaks)
    said: list[str] = []
    tune(recipe, tmp_path, trials=1, say=said.append, progress=quiet)
    assert said[0].endswith("(was stopped before its first checkpoint: starts anew)")
    assert [line["step"] for line in Run(tmp_path / "trials" / "001").lines("log.jsonl")] == list(range(1, 9))


def test_a_pruned_trial_is_marked_and_stays_readable(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Study, "hear", lambda _, number, place, score: number != 2)
    recipe = read_recipe(path, Recipe)
    found = tune(recipe, tmp_path, trials=3, say=quiet, progress=quiet)
    assert [trial["state"] for trial in found["trials"]] == ["finished", "pruned", "finished"]
    run = Run.open(tmp_path / "trials" / "002")
    assert run.manifest["status"] == "pruned"
    assert run.manifest["stopped_early"] == found["trials"][1]["note"]
    assert "its dev scores lie below the median of the trials before it" in found["trials"][1]["note"]
    assert len(run.lines("dev.jsonl")) == 1
    assert len(run.lines("log.jsonl")) == run.lines("dev.jsonl")[0]["step"] < run.lines("log.jsonl")[0]["of"]
    assert not (run.folder / "checkpoints").exists()
    assert not (run.folder / "model").exists()
    assert found["best"] != 2
    assert trained(recipe, run.folder, say=quiet, progress=quiet).manifest["status"] == "pruned"  # is not gone on with
    assert resume(run.folder, say=quiet, progress=quiet).manifest["status"] == "finished"  # unless it is asked for


def test_a_trial_below_the_median_is_not_worth_going_on_with(path: Path, tmp_path: Path) -> None:
    study = Study(tmp_path / "journal.jsonl", space_of(read_recipe(path, Recipe), rows=64), seed=0)
    for score in (0.5, 0.6, 0.7, 0.8):
        trial = study.next(6)
        assert trial is not None
        assert study.hear(trial.number, 1, score)
        study.end(trial.number, score, state="finished", seconds=1.0)
    low = study.next(6)
    assert low is not None
    assert not study.hear(low.number, 1, 0.64)
    study.end(low.number, None, state="pruned", seconds=1.0, note="why")
    high = study.next(6)
    assert high is not None
    assert study.hear(high.number, 1, 0.66)
    study.end(high.number, 0.9, state="finished", seconds=1.0)
    assert study.next(6) is None
    tried = study.tried()
    assert [trial.state for trial in tried] == ["finished"] * 4 + ["pruned", "finished"]
    assert (tried[4].score, tried[4].note) == (0.64, "why")


def test_a_trial_that_cannot_be_trained_is_noted_and_the_search_goes_on(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hear(_: Study, number: int, place: int, score: float) -> bool:
        if number == 2:
            raise DivergedError("step 3: the loss is inf")
        return True

    monkeypatch.setattr(Study, "hear", hear)
    found = tune(read_recipe(path, Recipe), tmp_path, trials=3, say=quiet, progress=quiet)
    assert [trial["state"] for trial in found["trials"]] == ["finished", "diverged", "finished"]
    assert found["trials"][1]["note"] == "step 3: the loss is inf"
    assert Run.open(tmp_path / "trials" / "002").manifest["status"] == "diverged"
    assert not (tmp_path / "trials" / "002" / "checkpoints").exists()


def test_training_lets_who_hears_it_end_it(path: Path, tmp_path: Path) -> None:
    heard: list[tuple[int, float]] = []
    recipe = read_recipe(path, Recipe)
    run = train(recipe, tmp_path / "whole", say=quiet, progress=quiet, heard=lambda *found: heard.append(found))
    assert heard == [(line["step"], line["value"]) for line in run.lines("dev.jsonl")]
    assert [step for step, _ in heard] == [8, 16, 24]

    def ends(step: int, score: float) -> None:
        raise Pruned(f"enough after step {step}")

    with pytest.raises(Pruned, match="enough after step 8"):
        train(recipe, tmp_path / "pruned", say=quiet, progress=quiet, heard=ends)
    assert Run.open(tmp_path / "pruned").manifest["stopped_early"] == "enough after step 8"


def test_what_is_searched_follows_from_the_method(path: Path) -> None:
    recipe = read_recipe(path, Recipe)

    def space(method: Any, rows: int = 64) -> Any:
        return space_of(recipe.model_copy(update={"method": Method.read(method)}), rows=rows)

    assert (space("full").low, space("full").high) == pytest.approx((5e-6, 5e-4))
    assert space("full").choices == {"batch": (8, 16, 32)}
    assert space("full", rows=20).choices == {"batch": (8, 16)}
    assert space("lora").choices == {"batch": (8, 16, 32), "rank": (4, 8, 16, 32)}
    assert space({"kind": "lora", "rank": 6}).choices["rank"] == (4, 6, 8, 16, 32)
    assert space("adapters").choices["reduction"] == (None, 4, 8, 32)
    assert space("prompt").choices["length"] == (10, 20, 50, 100)
    assert space("prefix").own == {"learning_rate": 5e-3, "batch": 8, "length": 50}
    assert space({"kind": "full", "learning_rate": 0.1}).high == 0.1
    pissa = Method.read({"kind": "lora", "init": "pissa", "learning_rate": 0.3})
    assert default_rate(pissa) == default_rate(Method.read({"kind": "lora", "init": "pissa"})) < 0.3


def test_settings_are_put_into_the_recipe(path: Path) -> None:
    def method(lora: dict[str, Any], rank: int) -> dict[str, Any]:
        recipe = read_recipe(path, Recipe, ["training.learning_rate=0.1"])
        recipe = recipe.model_copy(update={"method": Method.read({"kind": "lora", **lora})})
        found = with_settings(recipe, {"learning_rate": 1e-3, "batch": 16, "rank": rank})
        assert (found.training.learning_rate, found.training.batch) == (None, 16)
        return found.method.model_dump()

    assert method({}, 8)["learning_rate"] == 1e-3
    assert (method({}, 8)["rank"], method({}, 8)["alpha"]) == (8, 16.0)
    assert method({"rank": 8, "alpha": 5.0}, 8)["alpha"] == 5.0  # the recipe's own pair stays as it is
    assert method({"rank": 8, "alpha": 5.0, "rank_stabilized": True}, 4)["alpha"] is None


def test_a_search_needs_dev_rows_that_are_scored(path: Path, tmp_path: Path) -> None:
    bare = read_recipe(path, Recipe, ["data.dev=null"])
    for step in (
        lambda: tune(bare, tmp_path, trials=1, say=quiet, progress=quiet),
        lambda: probe(bare, tmp_path, say=quiet, progress=quiet),
    ):
        with pytest.raises(RecipeError, match=r"data\.dev: .*, and the recipe names no dev rows; give some"):
            step()
    blind = read_recipe(path, Recipe, ["training.evaluations=0"])
    with pytest.raises(RecipeError, match=r"training\.evaluations: a search compares dev scores"):
        tune(blind, tmp_path, trials=1, say=quiet, progress=quiet)
    assert not any(tmp_path.iterdir())


def test_a_probe_tries_three_rates_for_a_short_while_and_says_how_sure_it_is(path: Path, tmp_path: Path) -> None:
    said: list[str] = []
    found = probe(read_recipe(path, Recipe), tmp_path, say=said.append, progress=quiet)
    assert [trial["settings"]["learning_rate"] for trial in found["trials"]] == [1.67e-5, 5e-5, 1.5e-4]
    assert found["steps"] == [8, 24]
    assert found["best"] == 3
    assert found["sentence"].startswith("0.00015, three times the method's own rate, is best after 8 of 24 steps: dev")
    assert "at the edge of what was tried, and a higher one may be better still" in found["sentence"]
    assert " against " in found["sentence"]
    assert ("chance" in found["sentence"]) and ("60 dev rows" in found["sentence"])
    best = read_recipe(tmp_path / "best.yaml", Recipe)
    assert (best.method.learning_rate, best.training.epochs) == (1.5e-4, 3)
    assert [(tmp_path / "trials" / f"00{n}" / "model").is_dir() for n in (1, 2, 3)] == [False, False, True]
    before = len(said)
    assert probe(read_recipe(path, Recipe), tmp_path, say=said.append, progress=quiet) == found
    assert len(said) == before
    with pytest.raises(RunError, match="differs in 'kind'"):
        tune(read_recipe(path, Recipe), tmp_path, trials=1, say=quiet, progress=quiet)


def test_a_probe_takes_the_longer_of_its_share_and_eight_steps(path: Path, tmp_path: Path) -> None:
    for epochs, steps in ((0.5, [4, 4]), (10, [24, 80])):
        recipe = read_recipe(path, Recipe, [f"training.epochs={epochs}", "training.learning_rate=0.5"])
        found = probe(recipe, tmp_path / str(epochs), say=quiet, progress=quiet)
        assert found["steps"] == steps
        assert len(Run.open(tmp_path / str(epochs) / "trials" / "002").lines("log.jsonl")) == steps[0]


def test_the_command_prints_the_table_the_sentence_and_the_files(
    tuned: tuple[Path, dict[str, Any]], path: Path
) -> None:
    folder, found = tuned
    told = CliRunner().invoke(app, ["tune", str(path), "--run", str(folder), "--trials", str(TRIALS)])
    assert told.exit_code == 0, told.output
    assert f"*{found['best']}" in told.output
    assert found["sentence"][:40] in told.output
    assert "best.yaml" in told.output
