"""The default recipe: soft labels whose weight is chosen inside the fold, where 0 is the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sidelight.config import Config
from sidelight.errors import ConfigError
from sidelight.methods.base import Method
from sidelight.methods.context import TrainingContext
from sidelight.methods.distillation import Distillation, DistillationLoss, Teacher
from sidelight.methods.multi_stage import MultiStageMethod
from sidelight.methods.pointwise import KL, MSE
from sidelight.methods.ranges import POSITIVE
from sidelight.methods.teacher_sets import parse_teacher_sets
from sidelight.networks.network import OutputParts
from sidelight.tasks import Task

WEIGHTS = (1.0, 4.0, 16.0)
"""The weights that are tried beside 0, the baseline."""


class Auto(MultiStageMethod):
    """Soft labels (`kl`; `mse` for values) whose weight, 0, 1, 4 or 16, is chosen inside each fold; 0 is the baseline.

    A student is trained with each weight, and the one with the best score on the select rows is kept; where labels are
    few, the best mean score over the inner folds decides. Of equal scores, the smaller weight. Weight 0 is the fold's
    baseline itself, to the bit, so that a teacher from which nothing can be learned costs nothing but chance. The
    placebo chooses among its own students. job.json holds the choice (`chosen`), and table and report tell it.

    Eq. 4 of Hinton et al. is the soft-label term (`kl` and `mse` say which). Three students are trained, one after the
    other, beside the baseline and the teacher that every study has. Whoever teaches other methods teaches here
    (`teacher.crossfit`, `teacher.sets`).
    """

    paper = "Hinton et al. 2015; the choice of the weight is ours"
    stages = ("teacher", "students")
    stackable = True
    ranges = {"temperature": POSITIVE}

    @classmethod
    def check_experiment(cls, name: str, config: Config, task: Task, shapes: Mapping[str, Sequence[int]]) -> None:
        if parse_teacher_sets(config) and config.teacher.crossfit:
            raise ConfigError(f"method {name!r}: teachers of teacher.sets cannot be cross-fitted (teacher.crossfit).")

    @classmethod
    def build(cls, context: TrainingContext, *, temperature: float = 4.0) -> Method:
        """Train a student with each weight, and return the one with the best score.

        Args:
            context: the rows, networks and settings of the job.
            temperature: T of the softened predictions; not of values.

        Raises:
            ConfigError: a setting outside of its range.
        """
        cls.validate_settings(temperature=temperature)
        best, score_of_none = context.baseline()
        scores = {0.0: score_of_none}
        start = context.trained_network([*context.available, *context.privileged])
        crossfit = bool(context.config.teacher.crossfit)
        teachers = context.teachers(crossfit, OutputParts(features=False, embedding=False))
        fold = teachers.teacher_fold if isinstance(teachers, Teacher) else None
        for weight in WEIGHTS:
            loss: DistillationLoss
            if context.task.kind == "regression":
                name, loss = "mse", MSE(weight=weight)
            else:
                name, loss = "kl", KL(temperature, weight)
            context.seed()
            student = Distillation(context.student(start), teachers, context.task, {name: loss}, context.rows())
            score = context.fit(student, f"weight{weight:g}", fold)
            if score > max(scores.values()):  # equal scores leave the smaller weight
                best = student
            scores[weight] = score
        best.chosen = {
            "weight": max(scores, key=lambda w: (scores[w], -w)),
            "scores": {f"{w:g}": score for w, score in scores.items()},
        }
        return best
