"""The memory of a search: what was tried and what came of it, and what to try next. All of Optuna is here.

A search killed at any moment goes on as if it never had been: what is drawn for a trial follows from the seed, the
trial's number and the trials before it alone.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import Trial, TrialState

from burnish.steps.space import RATE, Settings, Space
from burnish.text import fingerprint

NAME = "tune"
STARTUP = 4  # trials drawn at random before the others are drawn where the good ones lie, and before any is pruned
DIGITS = 3  # of a learning rate: more would only look exact


@dataclass(frozen=True, slots=True)
class Tried:
    """A trial: its number from 1, its settings, and once it has ended its state, seconds and what there is to say.

    score: of the dev rows, higher is better; of a pruned trial the last one heard. state: empty while it runs.
    """

    number: int
    settings: Settings
    score: float | None
    state: str
    seconds: float
    note: str


class Study:
    """A search by TPE (Bergstra et al. 2011) with median pruning, kept in a journal, a file of JSON lines."""

    def __init__(self, path: Path, space: Space, *, seed: int) -> None:
        """Open the journal, or begin one; the folder must be locked: what a killed process left half done is mended."""
        _mend(path)
        self._space, self._seed = space, seed
        with _quiet():
            backend = JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path)))
            self._storage = JournalStorage(backend)
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=NAME,
                direction="maximize",
                pruner=MedianPruner(n_startup_trials=STARTUP),
                load_if_exists=True,
            )

    def next(self, trials: int) -> Tried | None:
        """Return the trial that was stopped, or a new one; None once there are as many as asked for.

        The first has the recipe's own settings, so that what the search gains is known.
        """
        with _quiet():
            known = self._study.get_trials()
            stopped = [trial.number for trial in known if trial.state == TrialState.RUNNING]
            begun = sum(trial.state != TrialState.WAITING for trial in known)
            if not stopped and begun >= trials:
                return None
            if not known:
                self._study.enqueue_trial(dict(self._space.own))
            self._study.sampler = self._sampler(stopped[0] if stopped else begun)
            trial = self._trial(stopped[0]) if stopped else self._study.ask()
            return Tried(trial.number + 1, self._drawn(trial), None, "", 0.0, "")

    def hear(self, number: int, place: int, score: float) -> bool:
        """Note the dev score of a trial's evaluation, counted from 1; tell whether the trial is worth going on with.

        It is not where all its scores lie below the median of the finished trials' at this place.
        """
        with _quiet():
            trial = self._trial(number - 1)
            trial.report(score, place)
            return not trial.should_prune()

    def end(self, number: int, score: float | None, *, state: str, seconds: float, note: str = "") -> None:
        """Note how a trial ended; without a score it counts as one of the worst."""
        with _quiet():
            trial = self._trial(number - 1)
            for name, value in (("state", state), ("seconds", seconds), ("note", note)):
                trial.set_user_attr(name, value)
            self._study.tell(trial, score, state=TrialState.PRUNED if score is None else TrialState.COMPLETE)

    def tried(self) -> list[Tried]:
        """Return the trials that have ended, in their order."""
        with _quiet():
            return [
                Tried(
                    number=trial.number + 1,
                    settings=self._shown(trial.params, trial.number),
                    score=trial.value,
                    **{key: trial.user_attrs[key] for key in ("state", "seconds", "note")},
                )
                for trial in self._study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
            ]

    def _trial(self, number: int) -> Trial:
        study = self._storage.get_study_id_from_name(NAME)
        return Trial(self._study, self._storage.get_trial_id_from_study_id_trial_number(study, number))

    def _drawn(self, trial: Trial) -> Settings:
        """Return the settings of a trial, drawn now where they were not yet."""
        found: dict[str, Any] = {RATE: trial.suggest_float(RATE, self._space.low, self._space.high, log=True)}
        for name, choices in self._space.choices.items():
            found[name] = trial.suggest_categorical(name, choices)
        return self._shown(found, trial.number)

    def _shown(self, drawn: Mapping[str, float | int | None], number: int) -> Settings:
        """Return the settings with a rate of few digits; the recipe's own stays as it is."""
        rate = drawn[RATE]
        return {**drawn, RATE: float(f"{rate:.{DIGITS}g}") if number else rate}

    def _sampler(self, number: int) -> TPESampler:
        seed = int(fingerprint(str(self._seed), str(number))[:8], 16)
        return TPESampler(n_startup_trials=STARTUP, multivariate=True, seed=seed)


def _mend(path: Path) -> None:
    """Cut off a last line that was not written to its end, and take away the lock of a process that is gone."""
    text = path.read_bytes() if path.is_file() else b""
    if text and not text.endswith(b"\n"):
        path.write_bytes(text[: text.rfind(b"\n") + 1])
    for left in path.parent.glob(f"{path.name}.lock*"):
        left.unlink()


@contextmanager
def _quiet() -> Iterator[None]:
    """Let Optuna log and warn of nothing: what a user should hear is said by the search itself."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(level)
