"""The schema of an experiment: every setting, its type, its default and what it means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class NetworkConfig:
    """Teacher, baseline and student are built from the same settings.

    Args:
        encoder: "auto" (mlp for vectors, statistics for signals), "mlp", "statistics" or "cnn".
        width: size of every modality's feature vector and of the fused embedding.
        fusion: "concat", "joint-cross-attention" or "multimodal-transformer".
        tokens: time tokens that a signal encoder returns (1 = pooled).
        dropout: dropout rate in encoders and fusion.
    """

    encoder: Literal["auto", "mlp", "statistics", "cnn"] = "auto"
    width: int = 64
    fusion: Literal["concat", "joint-cross-attention", "multimodal-transformer"] = "concat"
    tokens: int = 1
    dropout: float = 0.2


@dataclass
class TrainingConfig:
    """The optimisation budget, the same for teacher, baseline and student.

    Args:
        epochs: at most this many passes over the training rows.
        patience: stop after this many epochs without a better score on `select`.
        batch_size: rows per step.
        learning_rate: Adam's step size.
        weight_decay: decoupled weight decay.
    """

    epochs: int = 60
    patience: int = 15
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4


@dataclass
class TeacherConfig:
    """How the teacher speaks.

    Args:
        crossfit: 0, or the number of teachers inside the fold's train rows, each speaking only of rows it has not seen.
        hallucination: loss of the T-Net: "mse", "cosine" or "mmd".
    """

    crossfit: int = 0
    hallucination: Literal["mse", "cosine", "mmd"] = "mse"


@dataclass
class StudentConfig:
    """The student's side.

    Args:
        init: available encoders start from the "teacher" or from "random" weights.
        freeze: keep the available encoders as the teacher left them.
        hallucinate: "auto" (where the method asks for it: pkdot), "yes" or "no".
    """

    init: Literal["teacher", "random"] = "teacher"
    freeze: bool = False
    hallucinate: Literal["auto", "yes", "no"] = "auto"


@dataclass
class TransportConfig:
    """Structural transport of the `pkdot` methods; None keeps what the preset says.

    Args:
        preset: "paper", "released" or "sidelight" (the preset of `pkdot` itself; `pkdot-released` and
            `pkdot-sidelight` always mean theirs).
        epsilon: entropic regularisation, a number or "relative:0.05".
        k: number of anchors.
        objective: "plain" entropic transport or "divergence".
        anchors: "paper", "released", "random", "farthest" or "class-balanced".
        weight: λ, the weight of the term.
    """

    preset: Literal["paper", "released", "sidelight"] = "paper"
    epsilon: float | str | None = None
    k: int | None = None
    objective: str | None = None
    anchors: str | None = None
    weight: float | None = None


@dataclass
class TermsConfig:
    """Weights and settings of the other distillation terms.

    Args:
        kl_temperature: T of the softened logits.
        kl_weight: weight of `kl`.
        mse_weight: weight of `mse`.
        mse_on: "prediction" or "fused".
        cosine_weight: weight of `cosine`.
    """

    kl_temperature: float = 4.0
    kl_weight: float = 1.0
    mse_weight: float = 1.0
    mse_on: Literal["prediction", "fused"] = "prediction"
    cosine_weight: float = 1.0


@dataclass
class Config:
    """One experiment: folds × seeds × methods on one data set.

    Args:
        data: a built-in name (`phone-watch`), a .npz, a manifest (.csv, .parquet) or a folder with a metadata file.
        available: modalities that remain at deployment (empty: the data set's own question).
        privileged: modalities of training only (empty: the data set's own question).
        target: name of the target column or array.
        group: name of the column that says whose rows these are (subject, session).
        split: name of the column with official splits.
        task: "auto", "classification" or "regression".
        protocol: "auto" (official where a split is given, else group-kfold), "group-kfold", "leave-one-group-out",
            "official" or "random" (only when asked for by name).
        folds: number of folds.
        seeds: number of repetitions; each draws its own folds, labels and initial weights.
        seed: the first seed.
        select: share of a fold's non-test groups that choose epochs.
        label_groups: shares of the training groups whose labels are kept, e.g. [0.2, 1.0]; (none: 1.0, or the set's own).
        methods: e.g. kl, pkdot, pkdot+kl, pkdot@crossfit. See `sidelight methods`.
        placebo: methods whose placebo is run too, or "best", "all", "none".
        self_distillation: methods that are also run with a baseline as their teacher, or "best", "all", "none".
        impute: "no" (NaN is an error) or "mean" (the train rows' mean).
        standardize: "train" (statistics of the train rows) or "group" (each group by its own; new groups need data).
        output: run folder (empty: runs/<data name>).
        jobs: worker processes (0: as many as there are cores).
        checkpoint_seconds: a running job saves its state this often.
    """

    data: str = "phone-watch"
    available: list[str] = field(default_factory=list)
    privileged: list[str] = field(default_factory=list)
    target: str = ""
    group: str = ""
    split: str = ""
    task: Literal["auto", "classification", "regression"] = "auto"
    protocol: Literal["auto", "group-kfold", "leave-one-group-out", "official", "random"] = "auto"
    folds: int = 5
    seeds: int = 3
    seed: int = 0
    select: float = 0.25
    label_groups: list[float] = field(default_factory=list)
    methods: list[str] = field(default_factory=lambda: ["kl", "pkdot", "pkdot+kl"])
    placebo: list[str] = field(default_factory=lambda: ["best"])
    self_distillation: list[str] = field(default_factory=lambda: ["none"])
    impute: Literal["no", "mean"] = "no"
    standardize: Literal["train", "group"] = "train"
    network: NetworkConfig = field(default_factory=NetworkConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    transport: TransportConfig = field(default_factory=TransportConfig)
    terms: TermsConfig = field(default_factory=TermsConfig)
    output: str = ""
    jobs: int = 0
    checkpoint_seconds: float = 30.0
