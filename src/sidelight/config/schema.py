"""The schema of an experiment: every setting, its type, its default and what it means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from sidelight.config.renamed import accept_old_names


@dataclass
class NetworkConfig:
    """The network: teacher, baseline and student are built from the same settings.

    Args:
        encoder: encoder of every modality that it can read. "auto" encodes a signal by its statistics; "statistics",
            "cnn" and "mlp" choose an encoder for signals. Vectors always get an mlp. Public networks have names such as
            "resnet18" or "r3d18" (docs/networks.md).
        encoders: encoders of single modalities, e.g. network.encoders.video=r3d18.
        weights: local weight files from which encoders start, e.g. network.weights.video=r3d18.safetensors. A relative
            path in a YAML file is looked up in the file's folder, then in the working directory, as `data` is.
        sum_channels: sum the first convolution of a weight file over its channels, for rows that have one channel.
        width: size of each modality's feature vector and of the fused embedding.
        fusion: "concat", "joint-cross-attention", "multimodal-transformer" or "cross-translation". Networks that
            predict a class per pixel take "concat", "squeeze-excitation" or "cross-translation".
        tokens: number of time tokens that a signal encoder returns; 1 pools over time.
        dropout: dropout rate between the fused embedding and the head.
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
        epochs: largest number of epochs. An epoch is a pass over the training rows, or several where one has fewer than
            `least_steps` steps.
        patience: stop after this many epochs without a better score on the select rows.
        batch_size: largest number of rows per optimiser step. Where a pass has fewer than `least_steps` steps, batches
            are smaller, but not below 16 rows.
        accumulate: number of pieces in which the encoders read a batch, one after the other, so that only one piece's
            activations are in memory. Losses still see the whole batch, and the result is the same. 1: all at once.
        learning_rate: step size of the optimiser; a schedule starts from it or peaks at it.
        weight_decay: weight decay, decoupled in "adamw" and added to the gradient in "adam" and "sgd".
        learning_rates: learning rates of single parts of the network (encoders, fusion, head, hallucinators), e.g.
            training.learning_rates.encoders=1e-4. Parts that are not named use learning_rate.
        optimizer: "adamw", "adam" or "sgd".
        momentum: momentum of "sgd"; the other optimisers ignore it.
        schedule: learning rate over all epochs: "constant", "cosine" (falls to 0) or "onecycle" (rises for 30 % of the
            steps, then falls to almost 0).
        stack: largest number of models that are trained as one (docs/stacking.md): jobs of one method that differ in
            fold, seed or label fraction. 1: each alone; 0: as many as pay. Results are equal but for rounding.
        device: where networks are trained and tested: "auto" (a CUDA GPU if there is one, else "mps" on Apple silicon,
            else "cpu"), "cpu", "cuda", "cuda:1" or "mps".
        deterministic: allow only operations that repeat to the bit on the same GPU, which are slower; without it, sums
            on a GPU may differ in their last bits from run to run. On the CPU every run repeats either way.
        precision: numbers that networks are trained with: "32" (float32), "bf16" (bfloat16 products, which GPUs and
            some CPUs compute faster) or "16" (float16 with scaling, for CUDA GPUs without bfloat16). Losses, weights
            and every prediction stay in float32.
        least_steps: fewest optimiser steps of an epoch, so that few rows are trained as long as many: epochs, patience
            and warm-up then count steps. 1: an epoch is one pass in batches of `batch_size`.
        compile: translate encoders by torch.compile before they are trained (docs/training.md): about a minute for each
            structure, then faster steps where many small operations follow one another. Results are equal but for
            rounding, and dropout inside of an encoder.
        class_weights: weights of classes in the task loss: "none", or "balanced": a class counts as much as any other,
            however few of the fold's labelled train rows are of it.
        batches: "shuffled", or "balanced": every batch holds as many labelled rows of each class as of any other; rows
            of small classes repeat, and rows of large ones take turns.
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
    stack: int = 1
    accumulate: int = 1
    device: str = "auto"
    deterministic: bool = False
    precision: Literal["32", "bf16", "16"] = "32"
    least_steps: int = 10
    compile: bool = False
    class_weights: Literal["none", "balanced"] = "none"
    batches: Literal["shuffled", "balanced"] = "shuffled"


@dataclass
class AugmentConfig:
    """Random views of videos, frames and images that are read from files. Select and test rows use the centre view.

    All modalities of a row get the same view. Only `time` is on by default: every clip of a recording shares its label,
    but a mirrored or cropped image may not. The teacher's outputs are computed on the centre view. In segmentation
    with `crop` or `flip`, teacher, student and label maps use the same view.

    Args:
        crop: smallest share of the largest crop that a view covers; 1 takes the largest crop in the middle.
        flip: mirror half of the views.
        time: start clips that are shorter than their recording at a random time.
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
    """Which teachers are trained, and on which rows their outputs count.

    Args:
        crossfit: number of teachers that share a fold's labelled groups, each giving outputs only for groups on which
            it was not trained; every method then uses them. With 0, only methods named `…@crossfit` are cross-fitted,
            by 5 teachers.
        sets: "all" trains one teacher on every modality, whose outputs cover every row. "each" trains one teacher per
            privileged modality. Sets such as eda, ecg+emg train one teacher each. A teacher of a set reads the set and
            the available modalities, and its outputs cover the rows that have any modality of the set.
        hallucination: loss of the T-Net: "mse", "cosine" or "mmd".
    """

    crossfit: int = 0
    sets: list[str] = field(default_factory=lambda: ["all"])
    hallucination: Literal["mse", "cosine", "mmd"] = "mse"


@dataclass
class StudentConfig:
    """The student: how it starts, and what it does without the privileged modalities.

    Args:
        init: weights from which the available encoders start: those of the "teacher", or "random" ones.
        freeze: keep the available encoders as the teacher trained them.
        drop: probability of leaving each available modality out of a training row. Above 0 the student works with any
            subset of the available modalities and completes those that are missing; the baseline is trained alike.
        hallucinate: what replaces the privileged encoders: "auto" (what the method needs), "t-net" (frozen, trained on
            the teacher's features), "encoder" (a network on the available modalities), or null (nothing; also "no").
    """

    init: Literal["teacher", "random"] = "teacher"
    freeze: bool = False
    drop: float = 0.0
    hallucinate: Literal["auto", "t-net", "encoder", "no"] = "auto"


@dataclass
class TransportConfig:
    """Structural transport of the method `pkdot`; null keeps the paper's value.

    The methods `pkdot-released` and `pkdot-sidelight` ignore these settings.

    Args:
        epsilon: ε, the entropic regularisation: a number, or a share of the mean cost such as "relative:0.05"; null:
            0.1.
        k: number of anchors; null: 30.
        objective: "plain" entropic transport or "divergence"; null: plain.
        anchors: how anchors are chosen: "paper", "released", "random", "farthest_point", "k_medoids" or
            "class_balanced"; null: paper.
        alignment: which rows of student and teacher belong together. "row" compares row i with row i, without
            transport; with "index" and "label" transport pays for leaving the row or its class; null: none of them.
        identity: weight of an added distance between row i of the student and row i of the teacher; null: 0.0.
        weight: λ, the weight of the loss term beside the task loss; null: 0.4.
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
    """How the loss terms of a method are weighted against each other.

    Args:
        kind: "method" (as in the method's paper), "fixed" (constant weights), "target-ratio" (each other term is kept
            at `ratio` times the task loss), "gradient-ratio" (its gradient is kept at `ratio` times that of the task
            loss) or "gradnorm" (Chen et al. 2018).
        warmup: number of epochs over which all terms but the task loss grow from 0 to their weight.
        ratio: size of each term, or of its gradient, relative to the task loss; both ratios read it.
        alpha: how strongly "gradnorm" favours terms that learn slowly.
    """

    kind: Literal["method", "fixed", "target-ratio", "gradient-ratio", "gradnorm"] = "method"
    warmup: int = 0
    ratio: float = 0.1
    alpha: float = 1.5


@accept_old_names
@dataclass
class Config:
    """One experiment: folds × seeds × methods on one data set.

    Args:
        data: a built-in name (`phone-watch`), a .npz, a manifest (.csv, .parquet) or a folder with a metadata file.
        available: modalities that the deployed student reads; empty: the data set's own.
        privileged: modalities that only training uses; empty: the data set's own.
        target: name of the target column or array; several names for a regression of several values; empty: the
            data set's own.
        group: name of the column that names each row's group (subject, session); empty: rows are independent.
        split: name of the column with the official split; empty: no official split.
        time: name of the column with each row's time (numbers or dates), or "order" if the rows are in time order.
            Blocks are cut along it, and so are the select rows of an official split without groups.
        task: "auto" (decided by the target), "classification", "regression", "segmentation" (a class per pixel),
            "retrieval" or "anti-spoofing" (docs/tasks.md).
        live: label of live faces in anti-spoofing; data sets differ in what 1 means.
        ignore_index: class of the pixels without a class in segmentation; −1 is always ignored.
        protocol: "auto", "group-kfold", "leave-one-group-out", "official", "blocks" (contiguous blocks of each group's
            rows, in time or row order), "forward" (such blocks, each tested by a network of those before it) or
            "random". "auto" takes "official" if there is a split, else "group-kfold" if there are groups, else "blocks"
            if there is a time; it never takes "random" or "forward".
        gap: smallest distance in time between train rows and select or test rows of blocks, in units of `time`
            (seconds for dates); without `time` in rows.
        folds: number of folds.
        seeds: number of repetitions; each draws new folds, labels and initial weights.
        seed: first seed.
        select: share of a fold's non-test groups that choose the best epoch.
        label_fraction: shares of the labelled non-test groups that keep their labels, each in (0, 1], e.g. 0.2 1.0;
            empty: the data set's own, else 1.
        select_labels: what chooses epochs at a label fraction below 1, inside the labels that it leaves: "auto" (a part
            of them where they are many, else "inner"), "inner" (cross-validation in 3 inner folds, then all of them
            train: 4 trainings for 1), "part", or "extra": all labels of the select groups, beside the fraction.
        methods: methods to compare, e.g. auto, kl, pkdot+kl, pkdot@crossfit. `sidelight methods` lists them.
        placebo: methods that also run with a placebo: names, "best", "all", or null (none of them; also "none").
        self_distillation: methods that also run with a baseline as their teacher: names, "best", "all", or null (none
            of them; also "none"). Methods that need privileged features, or that train in stages, cannot.
        impute: what replaces NaN: null (nothing: NaN is an error; also "no") or "mean" (mean of the train rows).
        on_error: "raise" stops at the first recording that cannot be read; "skip" drops its row and lists it in
            skipped.csv.
        longest: number of time steps at which a signal's rows are cut, e.g. longest.voice=1000, so that a few long rows
            do not pad all others. The student cuts its rows alike.
        standardize: "train" standardises by the train rows' mean and deviation, "group" by each group's own; a new
            group then needs data before its first prediction.
        options: settings of single methods, e.g. options.kl.temperature=2; docs/methods.md lists them.
        output: run folder; empty: runs/<data name>.
        jobs: number of worker processes; 0 starts one per core, or one on a GPU, which all of them would share.
        checkpoint_seconds: seconds between two checkpoints of a running job.
        metric: the metric that is compared, chooses epochs and heads table and report, e.g. accuracy, macro_f1,
            balanced_accuracy or ccc. "auto": the task's own; for a classification accuracy, or macro_f1 if more than
            60 % of the labelled rows are of one class.
        reference: rows beside the methods, which are not compared for the best: "majority" (the most common class, or
            the train mean), "linear" (regularised, on the same inputs and labels), "boosted" (small boosted trees),
            "warm-start" (a student that starts from the teacher's weights and learns from labels alone), or null (none
            of them; also "none"). docs/reading-a-report.md describes them.
        ablation: also run every sum of methods, such as pkdot+kl, without each of its terms, and a placebo of each
            (unless placebo=null), so that the report can tell what each term adds.
        max_failures: number of jobs that may fail before the run stops; 0 stops at the first. By default every other
            job is still trained: what failed is stored with its error, and --resume runs it again.
        tracking: trackers that are told of every epoch: tensorboard, mlflow, wandb (docs/tracking.md); empty: none.
        modalities: columns of the modalities, where their names do not say it: a prefix (face: AU_), a list of columns
            (eda: [gsr, scl]), channels of another one (nir: image[3]), settings of its files (depth: {step: 0.0002}),
            or null for one that is stored as docs/data.md describes. Only these are read, and those that are available
            or privileged; empty: all that are found.
        table: how a text manifest is written, where the file does not show it: table.separator (";", tab, blanks),
            table.decimal ("," or "."), table.encoding (latin-1, …) and table.header (the line of the names; 0: none).
        detrend: slow drift that is removed from each row of a signal, e.g. detrend.eda=line: "mean" (the row's mean),
            "line" (the straight line through it) or "difference" (each step minus the one before). Drift tells when a
            row was recorded; the student removes it alike.
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
    protocol: Literal["auto", "group-kfold", "leave-one-group-out", "official", "random", "blocks", "forward"] = "auto"
    gap: float = 0.0
    folds: int = 5
    seeds: int = 3
    seed: int = 0
    select: float = 0.25
    label_fraction: list[float] = field(default_factory=list)
    methods: list[str] = field(default_factory=lambda: ["auto", "pkdot"])
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
    select_labels: Literal["auto", "inner", "part", "extra"] = "auto"
    metric: str = "auto"
    reference: list[str] = field(default_factory=lambda: ["majority", "linear"])
    ablation: bool = False
    max_failures: int | None = None
    tracking: list[str] = field(default_factory=list)
    modalities: dict[str, Any] = field(default_factory=dict)
    table: dict[str, Any] = field(default_factory=dict)
    detrend: dict[str, str] = field(default_factory=dict)


CLASS_TASKS = ("retrieval", "anti-spoofing")
"""Tasks, beside classification, whose targets are classes."""
