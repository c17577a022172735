"""The schema of an experiment: every setting, its type, its default and what it means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass
class NetworkConfig:
    """Teacher, baseline and student are built from the same settings.

    Args:
        encoder: of signals: "auto" (their statistics), "statistics", "cnn" or "mlp"; vectors always have an mlp. Of
            every modality that it can read: a public network such as "resnet18" or "r3d18" (docs/networks.md).
        encoders: of single modalities, e.g. network.encoders.video=r3d18.
        weights: local files that encoders start from, e.g. network.weights.video=r3d18.safetensors. A relative path in
            a YAML file starts at the file's folder, or else at the working directory, as `data` does.
        sum_channels: the first convolution of such a file is summed over its channels where rows have one.
        width: size of every modality's feature vector and of the fused embedding.
        fusion: "concat", "joint-cross-attention", "multimodal-transformer" or "cross-translation"; of maps "concat",
            "squeeze-excitation" or "cross-translation".
        tokens: time tokens that a signal encoder returns (1 = pooled).
        dropout: rate of the dropout between the fused embedding and the head; nothing before it is dropped.
    """

    encoder: str = "auto"
    encoders: dict[str, str] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)
    sum_channels: bool = False
    width: int = 64
    fusion: Literal[
        "concat", "joint-cross-attention", "multimodal-transformer", "squeeze-excitation", "cross-translation"
    ] = "concat"
    tokens: int = 1
    dropout: float = 0.5


@dataclass
class TrainingConfig:
    """The optimisation budget, the same for teacher, baseline and student.

    Args:
        epochs: at most this many passes over the training rows.
        patience: stop after this many epochs without a better score on `select`.
        batch_size: rows per step.
        learning_rate: the optimiser's step size; of a schedule the largest.
        weight_decay: decoupled in adamw; in adam and sgd it is added to the gradient.
        learning_rates: of single parts of the networks (encoders, fusion, head, hallucinators), e.g.
            training.learning_rates.encoders=1e-4.
        optimizer: "adamw", "adam" or "sgd".
        momentum: of sgd.
        schedule: of the learning rate over all epochs: "constant", "cosine" (falls to 0) or "onecycle" (climbs for 30 %
            of the steps, then falls to almost 0).
    """

    epochs: int = 50
    patience: int = 10
    batch_size: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    learning_rates: dict[str, float] = field(default_factory=dict)
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    momentum: float = 0.9
    schedule: Literal["constant", "cosine", "onecycle"] = "constant"


@dataclass
class AugmentConfig:
    """How training views videos, frames and images that are read from files. What is tested is seen from the centre.

    The modalities of a row are viewed alike. Only `time` is on by default: another clip of a recording has its label,
    which a mirrored or cut image need not have. A teacher's outputs are kept from the centre view; where a class per
    pixel is learnt and `crop` or `flip` is set, teacher, student and label maps see the same view.

    Args:
        crop: least share of the largest crop that a view covers; 1: the largest crop in the middle.
        flip: half of the views are mirrored.
        time: clips shorter than their recording begin anywhere in it.
    """

    crop: float = 1.0
    flip: bool = False
    time: bool = True

    @property
    def moves(self) -> bool:
        """Whether pixels of a view lie elsewhere than those of the centre view."""
        return self.crop < 1 or self.flip


@dataclass
class TeacherConfig:
    """How the teacher speaks.

    Args:
        crossfit: 0, or how many teachers share a fold's labelled groups, each speaking of groups it has not seen; then
            every method is cross-fitted. With 0, only those named `…@crossfit` are, by 5.
        sets: "all" (one teacher on every modality, which speaks of every row), "each" (one for each privileged
            modality) or a teacher for each of some sets, e.g. eda, ecg+emg; it reads its set and what is available, and
            speaks of rows with any of the set.
        hallucination: loss of the T-Net: "mse", "cosine" or "mmd".
    """

    crossfit: int = 0
    sets: list[str] = field(default_factory=lambda: ["all"])
    hallucination: Literal["mse", "cosine", "mmd"] = "mse"


@dataclass
class StudentConfig:
    """The student's side.

    Args:
        init: available encoders start from the "teacher" or from "random" weights.
        freeze: keep the available encoders as the teacher left them.
        drop: above 0, one student for any subset of the available modalities: training leaves each out of a row with
            this probability, and the student completes what is missing. The baseline gets the same.
        hallucinate: what stands in for privileged encoders: "auto" (as the method asks), "t-net" (frozen, on the
            teacher's features), "encoder" (a network of its own on the available modalities) or "no".
    """

    init: Literal["teacher", "random"] = "teacher"
    freeze: bool = False
    drop: float = 0.0
    hallucinate: Literal["auto", "t-net", "encoder", "no"] = "auto"


@dataclass
class TransportConfig:
    """Structural transport of the method `pkdot`; null keeps the paper's value.

    `pkdot-released` and `pkdot-sidelight` are what their names say, whatever stands here.

    Args:
        epsilon: ε, the entropic regularisation: a number or "relative:0.05"; null: 0.1.
        k: number of anchors; null: 30.
        objective: "plain" entropic transport or "divergence"; null: plain.
        anchors: "paper", "released", "random", "farthest_point", "k_medoids" or "class_balanced"; null: paper.
        alignment: clouds do not see which row is which. "row" (row i against row i, no transport), "index" or "label"
            (transport pays for leaving its own); null: none of them.
        identity: weight of the row-by-row distance that is added; null: 0.0.
        weight: λ, the weight of the term beside the task loss; null: 0.4.
    """

    epsilon: float | str | None = None
    k: int | None = None
    objective: str | None = None
    anchors: str | None = None
    alignment: str | None = None
    identity: float | None = None
    weight: float | None = None


@dataclass
class BalanceConfig:
    """How the terms of a method are weighed against one another.

    Args:
        kind: "method" (as the method's paper does), "fixed" (constant weights), "target-ratio" (every other term is
            kept at `ratio` of the task loss) or "gradnorm" (Chen et al. 2018).
        warmup: the terms beside the task loss grow from 0 to their weight over this many epochs.
        ratio: of "target-ratio".
        alpha: of "gradnorm": how strongly terms that learn slowly are favoured.
    """

    kind: Literal["method", "fixed", "target-ratio", "gradnorm"] = "method"
    warmup: int = 0
    ratio: float = 0.1
    alpha: float = 1.5


@dataclass
class Config:
    """One experiment: folds × seeds × methods on one data set.

    Args:
        data: a built-in name (`phone-watch`), a .npz, a manifest (.csv, .parquet) or a folder with a metadata file.
        available: modalities that remain at deployment (empty: the data set's own question).
        privileged: modalities of training only (empty: the data set's own question).
        target: name of the target column or array; several for a regression of several values.
        group: name of the column that says whose rows these are (subject, session).
        split: name of the column with official splits.
        time: name of the column with each row's time (numbers, or dates and times), or "order" where rows stand in
            their order in time. Blocks are cut by it, also the select rows beside an official split without groups.
        task: "auto" (as the target is), "classification", "regression", "segmentation" (a class per pixel), or, of
            classes, "retrieval" or "anti-spoofing" (docs/tasks.md).
        live: of anti-spoofing, the label of live faces: data sets differ in what 1 stands for.
        ignore_index: of a segmentation, the class value of pixels that have no class, beside -1.
        protocol: "auto" (official where a split is given, else group-kfold, else blocks where `time` is),
            "group-kfold", "leave-one-group-out", "official", "blocks" (contiguous blocks of each group's rows, in time
            or as they stand) or "random" (only when asked for by name).
        gap: of blocks: no train row is nearer than this to a select or test row; in units of `time` (seconds where it
            holds dates), in rows where there is none.
        folds: number of folds.
        seeds: number of repetitions; each draws its own folds, labels and initial weights.
        seed: the first seed.
        select: share of a fold's non-test groups that choose epochs.
        label_groups: shares of the training groups whose labels are kept, e.g. [0.2, 1.0] (empty: the set's own or 1).
        methods: e.g. kl, pkdot, pkdot+kl, pkdot@crossfit. See `sidelight methods`.
        placebo: methods whose placebo is run too, or "best", "all", "none".
        self_distillation: methods that are also run with a baseline as their teacher, or "best", "all", "none". Not of
            methods that need privileged features or have stages of their own.
        impute: "no" (NaN is an error) or "mean" (the train rows' mean).
        on_error: of recordings that cannot be read: "raise", or "skip" to drop their rows and list them in skipped.csv.
        longest: time steps that are read of a signal's longer rows, e.g. longest.voice=1000, where a few very long rows
            would pad all others; the student reads as many.
        standardize: "train" (statistics of the train rows) or "group" (each group by its own; new groups need data).
        options: settings of one method by its name, e.g. options.kl.temperature=2; docs/methods.md lists them.
        output: run folder (empty: runs/<data name>).
        jobs: worker processes (0: as many as there are cores).
        checkpoint_seconds: a running job saves its state this often.
    """

    data: str = "phone-watch"
    available: list[str] = field(default_factory=list)
    privileged: list[str] = field(default_factory=list)
    target: list[str] = field(default_factory=list)
    group: str = ""
    split: str = ""
    time: str = ""
    task: Literal["auto", "classification", "regression", "segmentation", "retrieval", "anti-spoofing"] = "auto"
    live: str = ""
    ignore_index: int = 255
    protocol: Literal["auto", "group-kfold", "leave-one-group-out", "official", "random", "blocks"] = "auto"
    gap: float = 0.0
    folds: int = 5
    seeds: int = 3
    seed: int = 0
    select: float = 0.25
    label_groups: list[float] = field(default_factory=list)
    methods: list[str] = field(default_factory=lambda: ["kl", "pkdot", "pkdot+kl"])
    placebo: list[str] = field(default_factory=lambda: ["best"])
    self_distillation: list[str] = field(default_factory=lambda: ["none"])
    impute: Literal["no", "mean"] = "no"
    on_error: Literal["raise", "skip"] = "raise"
    longest: dict[str, int] = field(default_factory=dict)
    standardize: Literal["train", "group"] = "train"
    network: NetworkConfig = field(default_factory=NetworkConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    transport: TransportConfig = field(default_factory=TransportConfig)
    balance: BalanceConfig = field(default_factory=BalanceConfig)
    options: dict[str, Any] = field(default_factory=dict)
    output: str = ""
    jobs: int = 0
    checkpoint_seconds: float = 30.0


OF_CLASSES = ("retrieval", "anti-spoofing")
"""Tasks whose targets are read as classes."""
