"""Draws of settings by Optuna (extra `search`): at random, or by TPE, which learns from the draws before.

Every draw has a sampler of its own, seeded by its number. Optuna's samplers begin their sequence anew when a program
starts again, so one sampler for all draws would repeat its first draws after a restart.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sidelight.errors import RunError, SidelightWarning
from sidelight.sweeps.space import Choices, Range, space_to_dict
from sidelight.utils.extras import optional
from sidelight.utils.seeds import derive_seed

SPACE = "sidelight space"
"""The attribute of a study that holds its ranges."""


def require_optuna(sampler: str) -> Any:
    """Import Optuna; RunError names the extra that installs it."""
    optuna = optional("optuna", "search", f"a sweep with the sampler {sampler!r}")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def draw_random(space: Mapping[str, Range], seed: int, number: int) -> dict[str, Any]:
    """Draw number `number` of a random sweep: it depends on the ranges, the seed and the number alone.

    Args:
        space: dotted name of a setting -> its range.
        seed: the seed of the sweep.
        number: the number of the draw, from 0.
    """
    optuna = require_optuna("random")
    sampler = optuna.samplers.RandomSampler(seed=_seed(seed, "random", number))
    study = optuna.create_study(sampler=sampler, direction="maximize")
    return dict(study.ask(fixed_distributions=_distributions(optuna, space)).params)


class Search:
    """The draws of one job by TPE, stored in a journal, so that a killed sweep goes on with the draw that it was at.

    Args:
        file: the journal.
        name: the name of the job, which names the study in the journal.
        space: dotted name of a setting -> its range.
        seed: the seed of the sweep.

    Raises:
        RunError: the journal holds a study of other ranges or of another direction.
    """

    def __init__(self, file: Path, name: str, space: Mapping[str, Range], seed: int):
        self.optuna = require_optuna("tpe")
        self.name, self.space, self.seed = name, space, seed
        try:
            self.study = self._open(file)
        except RunError:
            raise
        except Exception as error:  # whatever Optuna makes of a damaged line
            warnings.warn(
                f"{file} is damaged ({error}). It is written again: the same draws follow from the same results.",
                SidelightWarning,
                stacklevel=2,
            )
            file.unlink(missing_ok=True)
            self.study = self._open(file)

    def _open(self, file: Path) -> Any:
        optuna = self.optuna
        file.parent.mkdir(parents=True, exist_ok=True)
        _drop_torn_line(file)
        lock = Path(f"{file}.lock")
        lock.unlink(missing_ok=True)  # left by a killed process: the lock of the run folder keeps others away
        backend = optuna.storages.journal.JournalFileBackend(
            str(file), lock_obj=optuna.storages.journal.JournalFileOpenLock(str(file))
        )
        storage = optuna.storages.JournalStorage(backend)
        study = optuna.create_study(study_name=self.name, storage=storage, direction="maximize", load_if_exists=True)
        if [direction.name for direction in study.directions] != ["MAXIMIZE"]:
            raise RunError(
                f"the study {self.name!r} in {file} looks for the smallest value, but scores on the select rows are "
                "better where they are higher: it is not of this sweep. Move the file away."
            )
        wanted, stored = space_to_dict(self.space), study.user_attrs.get(SPACE)
        if stored is None and not study.trials:
            study.set_user_attr(SPACE, wanted)
        elif stored != wanted:
            raise RunError(
                f"the study {self.name!r} in {file} has the ranges {stored}, not {wanted}. Choose another folder with "
                "--output (output=…)."
            )
        return study

    def ask(self, number: int) -> dict[str, Any]:
        """The settings of a draw, which depend on the seed, its number and the scores of the draws before it.

        The journal learns of a draw when it is finished, in one line, so a draw that was killed is drawn again.
        """
        before = self.study.get_trials(deepcopy=False)
        if number < len(before):
            return dict(before[number].params)
        sampler = self.optuna.samplers.TPESampler(seed=_seed(self.seed, self.name, number))
        study = self.optuna.create_study(sampler=sampler, direction="maximize")
        study.add_trials(before)
        return dict(study.ask(fixed_distributions=_distributions(self.optuna, self.space)).params)

    def tell(self, number: int, settings: Mapping[str, Any], score: float | None) -> None:
        """Store a draw and its score on the select rows; None if it failed."""
        if number == len(self.study.get_trials(deepcopy=False)):
            distributions = _distributions(self.optuna, self.space)
            state = self.optuna.trial.TrialState.FAIL if score is None else self.optuna.trial.TrialState.COMPLETE
            self.study.add_trial(
                self.optuna.trial.create_trial(
                    params=dict(settings), distributions=distributions, value=score, state=state
                )
            )


def _seed(*what: object) -> int:
    return derive_seed("sweep", *what) % 2**32


def _distributions(optuna: Any, space: Mapping[str, Range]) -> dict[str, Any]:
    """Dotted name of a setting -> Optuna's distribution of its range."""
    of = optuna.distributions
    made: dict[str, Any] = {}
    for name, one in space.items():
        if isinstance(one, Choices):
            made[name] = of.CategoricalDistribution(one.values)
        elif one.whole:
            made[name] = of.IntDistribution(int(one.low), int(one.high), log=one.log)
        else:
            made[name] = of.FloatDistribution(one.low, one.high, log=one.log)
    return made


def _drop_torn_line(file: Path) -> None:
    """Remove an incomplete last line, which a process leaves that was killed while it wrote."""
    if file.exists() and (content := file.read_bytes()) and not content.endswith(b"\n"):
        file.write_bytes(content[: content.rfind(b"\n") + 1])
