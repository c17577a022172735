"""Names that other libraries use for our settings, flags, verbs and values, so that errors can suggest ours."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

WORDS = {
    # settings of an experiment
    "data": "dataset data_path data_dir datadir source input_file manifest csv root",
    "available": "inputs input features modality sensors student_modalities test_modalities deployed x",
    "privileged": "teacher_modalities privileged_information lupi extra side_information x_star train_only",
    "target": "label labels y class classes outcome response dependent ground_truth gt targets label_column",
    "group": "groups subject subjects participant participants patient person people user speaker session stratify",
    "split": "partition fold_column predefined_split",
    "time": "timestamp timestamps time_column datetime date when",
    "gap": "purge embargo purge_gap margin",
    "longest": "max_length max_len maxlen truncate truncation max_steps",
    "task": "problem objective_type problem_type target_type",
    "ignore_index": "void ignore_label ignore_value",
    "protocol": "cv cross_validation validation_scheme splitter",
    "folds": "n_folds num_folds nfolds k_folds kfold kfolds n_splits splits cv_folds",
    "seeds": "n_seeds num_seeds repeats n_repeats repetitions runs n_runs trials restarts",
    "seed": "random_state random_seed rng manual_seed",
    "select": "validation val valid dev val_size val_split validation_split validation_fraction val_fraction val_ratio",
    "label_fraction": "label_share label_ratio labelled labeled labels_fraction label_budget few_shot",
    "select_labels": "inner_cv nested_cv inner_cross_validation validation_labels select_budget",
    "methods": "method loss losses distillation kd algorithms terms",
    "placebo": "placebos control controls permuted shuffle shuffled sanity_check",
    "self_distillation": "self born_again selfdistillation",
    "impute": "imputer imputation fillna fill missing nan",
    "on_error": "errors bad_rows on_bad_lines ignore_errors skip",
    "standardize": "normalize normalise normalization standardise scaler scaling zscore z_score norm",
    "network.encoder": "backbone model arch architecture encoder_name model_name net",
    "network.encoders": "backbones",
    "network.weights": "pretrained checkpoint ckpt pretrained_weights init_from state_dict",
    "network.width": "hidden hidden_size hidden_dim hidden_units dim embed_dim embedding embedding_dim d_model units",
    "network.fusion": "fuse fuser merge aggregation",
    "network.tokens": "n_tokens num_tokens sequence_length",
    "network.dropout": "drop_rate dropout_rate p_drop dropout_p",
    "training.epochs": "epoch n_epochs num_epochs max_epochs nb_epoch iterations max_iter n_iter",
    "training.patience": "early_stopping early_stop earlystopping n_iter_no_change",
    "training.batch_size": "batch batchsize bs minibatch mini_batch batch_sz train_batch_size",
    "training.learning_rate": "lr learningrate step_size eta eta0 learning_rate_init base_lr max_lr",
    "training.weight_decay": "wd decay l2 l2_reg regularization weightdecay",
    "training.optimizer": "optim optimiser opt solver",
    "training.schedule": "scheduler lr_scheduler lr_schedule lr_policy lr_decay",
    "training.precision": "amp fp16 bf16 float16 bfloat16 half mixed_precision autocast dtype",
    "training.momentum": "beta beta1 nesterov",
    "augment.crop": "random_crop resized_crop cropping",
    "augment.flip": "hflip horizontal_flip mirror random_flip",
    "augment.time": "jitter time_jitter temporal_jitter",
    "teacher.crossfit": "cross_fit crossfitting cross_fitting",
    "student.drop": "modality_dropout moddrop modality_drop missing_modality",
    "student.freeze": "frozen freeze_encoder",
    "transport.epsilon": "eps reg regularisation blur entropic",
    "transport.k": "n_anchors num_anchors prototypes n_prototypes",
    "balance.kind": "balancing weighting loss_weighting",
    "output": "out outdir out_dir output_dir output_folder save_dir savedir save_to log_dir logdir run_dir folder name",
    "jobs": "workers num_workers n_workers n_jobs njobs processes n_processes threads parallel cores cpus nproc",
    "checkpoint_seconds": "checkpoint_every save_every checkpoint_interval save_interval",
    # settings of methods, of recordings, and columns
    "temperature": "t tau temp",
    "weight": "lambda lam coef coefficient loss_weight",
    "rate": "sampling_rate sample_rate samplerate fs hz frequency sr",
    "seconds": "duration length window window_size secs",
    "unit": "units",
    "ids": "id index name names row_id key",
    "modalities": "modality inputs features sensors columns",
    "encoders": "encoder backbone backbones model models",
    # verbs
    "sweep": "tune search optimize hpo grid_search hyperparameters",
    "run": "train fit experiment compare study start launch distill",
    "inspect": "show info describe summary look head view",
    "report": "results evaluate eval plot html",
    "predict": "infer inference apply test score",
    "export": "deploy convert onnx save",
    "prepare": "download preprocess import ingest",
    "extract": "embed features featurize encode",
    "doctor": "check version env diagnose status",
    # values
    "regression": "regressor continuous real",
    "classification": "classifier binary multiclass categorical discrete",
    "segmentation": "dense pixels semantic",
    "retrieval": "ranking search metric_learning",
    "leave-one-group-out": "loso louo logo leave_one_out leave_one_subject_out",
    "group-kfold": "kfold groupkfold cv",
    "official": "predefined fixed given benchmark",
    "kl": "kd hinton soft_targets softmax distillation",
    "fitnet": "fitnets hint hints",
    "pkdot": "ot sinkhorn wasserstein optimal_transport emd",
    "constant": "none no fixed off",
    "onecycle": "1cycle one_cycle_lr",
    "mean": "average avg",
    "skip": "ignore drop omit continue warn",
    "device": "devices gpu gpus cuda accelerator",
}
"""Our name -> names used elsewhere."""

ABSENT = {
    "resume restart continue": "to continue a stored run, use the flag --resume (in Python: resume=True)",
    "quiet verbose verbosity progress": "to show less, use the flag --quiet (in Python: quiet=True)",
    "dry_run dryrun plan": "to see only the plan, use the flag --dry-run",
    "metrics score scoring": "every metric of the task is reported; metric=… names the one that is compared",
    "test_size test_split test_ratio test_fraction": "each fold has its own test rows: folds=5 tests on a fifth",
    "sweep space search_space grid": "ranges of settings are read by `sidelight sweep`, not by `sidelight run`",
    "download": "sidelight downloads nothing; data and weights are local files",
}
"""Words for settings that do not exist -> what to do instead."""


def plain(name: str) -> str:
    """Drop case, dashes, underscores and blanks, but not dots: "--Batch-Size" -> "batchsize"."""
    return re.sub(r"[-_\s]", "", name).lower()


MEANT: dict[str, list[str]] = {}
"""A plain word -> our names that it may stand for."""
for _name, _words in WORDS.items():
    for _word in _words.split():
        MEANT.setdefault(plain(_word), []).append(plain(_name))
ADVICE = {plain(word): advice for words, advice in ABSENT.items() for word in words.split()}
"""A plain word for a setting that does not exist -> what to do instead."""


def find_meant(name: str, valid: Sequence[str]) -> str | None:
    """The valid name that an unknown one most likely stands for: another spelling, a synonym, or a near miss.

    Args:
        name: the unknown name; may be dotted.
        valid: the names that exist.
    """
    given = plain(name[:200])
    leaf = given.rpartition(".")[2]
    forms = {plain(v): v for v in reversed(valid)}
    leaves = {form.rpartition(".")[2]: v for form, v in forms.items() if "." in form}
    if found := forms.get(given) or leaves.get(leaf):
        return found
    for word in MEANT.get(given, []) + MEANT.get(leaf, []):
        if found := forms.get(word) or leaves.get(word):
            return found
    near = difflib.get_close_matches(name[:200], valid, n=1, cutoff=0.5)
    return near[0] if near else None


def find_advice(name: str) -> str:
    """Advice for a setting that does not exist, to follow its name in an error; "" if there is none."""
    return ADVICE.get(plain(name).rpartition(".")[2], "")
