"""The command line: what it calls, what it prints, how it ends. What the verbs do is tested elsewhere."""

from __future__ import annotations

import errno
import subprocess
import sys
import warnings
from types import ModuleType, SimpleNamespace

import pandas as pd
import pytest

from sidelight import cli
from sidelight.cli import main
from sidelight.cli_examples import EXAMPLES
from sidelight.cli_parser import build_parser, parse
from sidelight.config import Config
from sidelight.config.io import settings
from sidelight.errors import DataError, DiskError, RunError, SidelightWarning
from sidelight.verbs.settings import experiment_of

VERBS = [
    "run", "suite", "sweep", "inspect", "advise", "report", "status", "predict", "export", "refit", "prepare",
    "windows", "extract", "methods", "datasets", "doctor", "show", "init", "compare", "describe",
    "completion",
]  # fmt: skip


def config_of(*words: str) -> Config:
    return experiment_of(parse(["run", *words]))


@pytest.fixture
def fake(monkeypatch):
    """Replaces a module that a verb imports; returns the calls that it received."""
    calls: list[tuple] = []

    def install(name: str, **functions):
        module = ModuleType(name)
        for function, answer in functions.items():

            def call(*args, _name=function, _answer=answer, **kwargs):
                calls.append((_name, args, kwargs))
                if isinstance(_answer, BaseException):
                    raise _answer
                return _answer

            setattr(module, function, call)
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(sys.modules["sidelight"], name.partition(".")[2], module, raising=False)
        return calls

    return install


@pytest.mark.parametrize("module", ["sidelight", "sidelight.cli"])
def test_python_m_is_the_command(module):
    said = subprocess.run([sys.executable, "-m", module, "nonsense"], capture_output=True, text=True, check=False)
    assert said.returncode == 2
    assert "nonsense" in said.stderr


def test_every_verb_has_a_function_and_an_example():
    assert list(cli.VERBS) == VERBS
    assert set(EXAMPLES) == {"", *VERBS}


@pytest.fixture(scope="module")
def helps() -> dict[str, str]:
    """What each verb's help says in one new process, and, on its last line, what heavy modules are imported by then."""
    code = (
        "import sys, sidelight.cli as c\n"
        "for verb in sys.argv[1:]:\n"
        "    try: c.main([*verb.split(), '--help'])\n"
        "    except SystemExit as e: assert e.code == 0\n"
        "    heavy = ('torch', 'pandas', 'numpy', 'scipy', 'sklearn', 'matplotlib')\n"
        "    print([m for m in heavy if m in sys.modules], end='\\0')"
    )
    said = subprocess.check_output([sys.executable, "-c", code, "", *VERBS], text=True)
    return dict(zip(["", *VERBS], said.split("\0")))


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_ends_with_examples_and_needs_nothing_heavy(verb, helps):
    assert EXAMPLES[verb] in helps[verb]
    assert helps[verb].strip().splitlines()[-1] == "[]"


def test_every_setting_is_a_flag_and_an_override():
    said = build_parser()._subparsers._group_actions[0].choices["run"].format_help()
    overrides, flags = [], []
    for name, setting in settings(Config).items():
        if name == "data" or setting.is_mapping:
            continue
        assert f"--{name.replace('_', '-')} " in said
        value = {"relative:0.05": "1"}.get(str(setting.default), setting.default)
        if isinstance(value, str | int | float) and value != "":
            overrides.append(f"{name}={value}")
            flags += [f"--{name}".replace("_", "-"), str(value)]
    assert len(overrides) > 50
    assert config_of("phone-watch", *overrides) == config_of("phone-watch", *flags)


def test_flags_and_overrides_in_any_order():
    config = config_of(
        "rows.csv", "--methods", "kl", "mse", "transport.epsilon=0.05", "--folds", "3", "--label-fraction", "0.2,1",
        "--available", "video", "--privileged", "eda", "ecg", "options.kl.weight=2",
        "--seed=4", "--training.epochs", "9",
        "--output", "a=b",
    )  # fmt: skip
    assert (config.data, config.methods, config.folds, config.seed) == ("rows.csv", ["kl", "mse"], 3, 4)
    assert (config.available, config.privileged, config.label_fraction) == (["video"], ["eda", "ecg"], [0.2, 1.0])
    assert (config.transport.epsilon, config.options["kl"]["weight"], config.training.epochs) == (0.05, 2.0, 9)
    assert config.output == "a=b"


def test_a_bare_placebo_means_all():
    assert config_of("phone-watch", "--placebo").placebo == ["all"]
    assert config_of("phone-watch").placebo == ["best"]


@pytest.mark.parametrize("file", [False, True])
def test_a_name_of_the_data_may_hold_a_comma(tmp_path, file):
    source = tmp_path / ("experiment.yaml" if file else "rows.csv")
    if file:
        source.write_text("data: rows.csv\ntarget: [other]\n")
    words = ["--target", "pain, level", "--available", "a,b", "c", "--methods", "kl,mse", "--label-fraction", "0.2,1"]
    config = config_of(str(source), *words)
    assert (config.target, config.available) == (["pain, level"], ["a,b", "c"])
    assert (config.methods, config.label_fraction) == (["kl", "mse"], [0.2, 1.0])


def test_inspect_reads_a_target_whose_name_holds_a_comma(tmp_path, capsys):
    frame = pd.DataFrame({"pain, level": [i % 2 for i in range(12)], "eda.0": range(12), "eda.1": range(12)})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    assert main(["inspect", str(tmp_path / "rows.csv"), "--target", "pain, level"]) == 0
    assert "12 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "swallowed", "flag"),
    [
        (["run", "--methods", "kl", "pkdot", "a.csv"], "a.csv", "--methods"),
        (["run", "--label-fraction", "0.2", "phone-watch", "--folds", "3"], "phone-watch", "--label-fraction"),
        (["run", "--available", "video", "experiment.yaml"], "experiment.yaml", "--available"),
        (["inspect", "--target", "pain", "rows.parquet"], "rows.parquet", "--target"),
    ],
)
def test_a_data_set_that_a_flag_swallowed_is_named(capsys, words, swallowed, flag):
    assert main(words) == 2
    assert capsys.readouterr().err == (f"error: {swallowed} was read as a value of {flag}; put the data set first.\n")


def test_a_bad_experiment_file_is_named_whatever_the_flags(tmp_path, capsys):
    (tmp_path / "experiment.yaml").write_text("fold: 4\n")
    assert main(["run", str(tmp_path / "experiment.yaml"), "--seeds", "5"]) == 2
    assert f"{tmp_path / 'experiment.yaml'}: unknown setting 'fold'" in capsys.readouterr().err


def test_an_experiment_file_is_changed_by_flags_and_overrides(tmp_path):
    path = tmp_path / "experiment.yaml"
    path.write_text("data: rows.csv\nfolds: 4\nseeds: 2\n")
    config = config_of(str(path), "--seeds", "5", "folds=3")
    assert (config.data, config.folds, config.seeds) == (str(tmp_path / "rows.csv"), 3, 5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rum", "phone-watch"], "unknown verb 'rum'. Did you mean 'run'?"),
        (["run", "phone-watch", "--fold", "3"], "unknown flag '--fold'. Did you mean '--folds'?"),
        (["run", "phone-watch", "--label_fraction=1"], "Did you mean '--label-fraction'?"),
        (["run", "phone-watch", "--transport.epsilom", "3"], "Did you mean '--transport.epsilon'?"),
        (["run", "phone-watch", "transport.epsilom=3"], "Did you mean 'transport.epsilon'?"),
        (["run", "phone-watch", "--task", "clasification"], "Did you mean 'classification'?"),
        (["run", "phone-watch", "--folds", "two"], "folds: expected a whole number, not 'two'"),
        (["run", "phone-watch", "--folds"], "--folds: expected one argument. See `sidelight run --help`"),
        (["run", "phone-watch", "other"], "cannot read 'other': expected setting=value"),
        (["run"], "run needs a data set or an experiment.yaml"),
        (["run", "--folds", "3"], "run needs a data set"),
        (["run", "--methods", "kl", "mse"], "run needs a data set"),
        (["inspect"], "inspect needs a data set or an experiment.yaml: sidelight inspect"),
        (["run", "nowhere.yaml"], "nowhere.yaml does not exist"),
        (["inspect", "x.csv", "--taget", "pain"], "unknown flag '--taget'. Did you mean '--target'?"),
        (["report"], "the following arguments are required: RUN"),
        (["export", "runs/x"], "choose what to write: --onnx"),
        (["export", "runs/x", "--onnx", "--output", "student.pt2"], "--onnx writes a file with the suffix .onnx"),
        (["--versio"], "unknown flag '--versio'. Did you mean '--version'?"),
    ],
)
def test_mistakes_are_named_with_the_nearest_valid_name(capsys, words, message):
    assert main(words) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err
    assert said.out == ""


def test_mistakes_are_found_before_anything_heavy_is_imported():
    code = (
        "import sys, sidelight.cli as c; code = c.main(['run', 'phone-watch', 'transport.epsilom=3'])\n"
        "print(code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2 False"


def test_version_and_help_without_a_verb(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("sidelight 0.")
    assert main([]) == 0
    assert "verbs:" in capsys.readouterr().out


def test_run_passes_the_settings_on_and_prints_the_answer(fake, capsys):
    study = SimpleNamespace(print=lambda: print("the answer"), failures=[])
    calls = fake("sidelight.experiment", run=study)
    assert main(["run", "phone-watch", "--seeds", "1", "--resume", "--quiet"]) == 0
    own = {"encoders": {}, "imports": {}, "only": [], "executor": None, "time_limit": None}
    assert calls == [("run", (config_of("phone-watch", "--seeds", "1"),), {"resume": True, "quiet": True} | own)]
    assert "the answer" in capsys.readouterr().out


def test_dry_run_prints_settings_and_plan_and_trains_nothing(fake, capsys):
    jobs = [
        SimpleNamespace(method=method, control=control, label_fraction=0.2, fold=fold, seed=0)
        for method, control in (("baseline", ""), ("kl", ""), ("kl", "self"))
        for fold in range(3)
    ]
    calls = fake("sidelight.experiment", plan=(Config(available=["phone_acc"]), jobs))
    assert main(["run", "phone-watch", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert [name for name, *_ in calls] == ["plan"]
    assert "- phone_acc" in said
    assert "plan: 9 jobs over 3 folds x 1 seeds" in said
    assert "labels of 20% of the training groups: baseline 3, kl 3, kl (self) 3" in said
    assert "the placebo of the method that is chosen, without test rows" in said


def test_interrupted_run_says_how_to_go_on(fake, capsys):
    fake("sidelight.experiment", run=KeyboardInterrupt())
    assert main(["run", "my data.csv", "--seeds", "1"]) == 130
    assert "sidelight run 'my data.csv' --seeds 1 --resume" in capsys.readouterr().err
    assert main(["run", "phone-watch", "--resume"]) == 130
    assert capsys.readouterr().err.count("--resume") == 1


@pytest.mark.parametrize("error", [RunError("runs/x holds this run"), DataError("rows.csv, row 3: NaN")])
def test_an_expected_error_is_one_paragraph(fake, capsys, error):
    fake("sidelight.experiment", run=error)
    assert main(["run", "phone-watch"]) == 2
    assert capsys.readouterr().err == f"error: {error}\n"
    with pytest.raises(type(error)):
        main(["run", "phone-watch", "--debug"])


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "runs/x/results.csv"),
        DiskError("cannot write runs/x/results.csv: No space left on device."),
    ],
)
def test_a_full_disk_is_an_error_that_says_how_to_go_on(fake, capsys, error):
    fake("sidelight.experiment", run=error)
    assert main(["run", "phone-watch"]) == 2
    said = capsys.readouterr().err
    assert "runs/x/results.csv: No space left on device" in said
    assert "sidelight run phone-watch --resume" in said


def test_a_mistake_of_ours_keeps_its_traceback(fake):
    fake("sidelight.experiment", run=ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main(["run", "phone-watch"])


def test_our_warnings_are_notes(monkeypatch, capsys):
    def verb(args):
        warnings.warn("k is reduced to 8", SidelightWarning, stacklevel=1)

    monkeypatch.setitem(cli.VERBS, "methods", verb)
    assert main(["methods"]) == 0
    assert capsys.readouterr().err == "note: k is reduced to 8\n"


def test_report_calls_its_function(fake, capsys):
    calls = fake("sidelight.report", write_report="runs/x/report.html")
    assert main(["report", "runs/x", "--output", "a.html"]) == 0
    assert calls.pop() == ("write_report", ("runs/x", "a.html"), {})
    assert capsys.readouterr().out == "runs/x/report.html\n"


def test_predict_prints_csv_or_writes_a_file(fake, capsys):
    said = pd.DataFrame({"id": ["a"], "prediction": ["walking"], "p.walking": [0.75]})
    student = SimpleNamespace(to=lambda device: f"the student on {device}")
    calls = fake("sidelight.export", load_student=student, predict_file=said)
    assert main(["predict", "runs/x", "rows.csv"]) == 0
    assert capsys.readouterr().out == "id,prediction,p.walking\na,walking,0.75\n"
    assert calls[-1][1] == ("the student on auto", "rows.csv", None)
    words = ["--output", "out.csv", "--ignore-privileged", "--ids", "row", "--on-error", "skip", "--device", "cuda:1"]
    assert main(["predict", "runs/x", "rows.csv", *words]) == 0
    assert capsys.readouterr().out == "1 predictions: out.csv\n"
    assert calls[-2] == ("load_student", ("runs/x",), {"encoders": {}})
    settled = {"ignore_privileged": True, "group": None, "ids": "row", "on_error": "skip", "escape": False, "table": {}}
    assert calls[-1] == ("predict_file", ("the student on cuda:1", "rows.csv", "out.csv"), settled)


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["{}", "--onnx"], "{}/student.onnx"),
        (["{}/one.safetensors", "--onnx"], "{}/one.onnx"),
        (["{}", "--output", "there.pt2"], "there.pt2"),
        (["{}", "--onnx", "--output", "there.onnx"], "there.onnx"),
    ],
)
def test_export_writes_beside_the_student_or_where_it_is_told(fake, capsys, tmp_path, words, written):
    (tmp_path / "one.safetensors").touch()
    student = SimpleNamespace(export=lambda path, group, max_batch: path)
    fake("sidelight.export", load_student=student)
    assert main(["export", *(word.format(tmp_path) for word in words)]) == 0
    assert capsys.readouterr().out == written.format(tmp_path) + "\n"


def test_inspect_reads_the_data_as_a_run_would(tmp_path, capsys):
    rows = [{"pain": p / 10, "who": f"s{p % 4}", "eda.0": p, "eda.1": p**0.5 if p else None} for p in range(12)]
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    words = [str(tmp_path / "rows.csv"), "--target", "pain", "--group", "who"]
    assert main(["inspect", *words]) == 2
    assert "eda" in capsys.readouterr().err  # the empty cell is named, and only imputed when asked
    assert main(["inspect", *words, "--impute", "mean"]) == 0
    said = capsys.readouterr().out
    assert "12" in said
    assert "eda" in said


@pytest.mark.parametrize("verb", ["run", "inspect"])
def test_a_file_without_rows_is_an_error(tmp_path, capsys, verb):
    (tmp_path / "rows.csv").write_text("id,target,group,face.0,face.1\n")
    assert (
        main([verb, str(tmp_path / "rows.csv"), *(["--output", str(tmp_path / "out")] if verb == "run" else [])]) == 2
    )
    assert capsys.readouterr().err == f"error: {tmp_path / 'rows.csv'} has no rows\n"


def test_datasets_show_licence_and_citation(capsys):
    assert main(["datasets"]) == 0
    said = capsys.readouterr().out
    assert "phone-watch" in said
    assert "CC BY 4.0" in said


def test_a_closed_pipe_is_no_error():
    code = "import sys; from sidelight.cli import main; sys.exit(main(['datasets']))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        said = process.stderr.read()
        process.wait()
    assert b"Traceback" not in said
