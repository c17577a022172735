"""Examples that the help of each verb ends with; "" for sidelight itself."""

EXAMPLES = {
    "": """
  sidelight run phone-watch                     the built-in study: labels from 20 % of the people
  sidelight inspect data/manifest.csv           what my data contain, and how well each modality predicts alone
  sidelight run data/manifest.csv --available video --privileged eda ecg --target pain --group subject
  sidelight methods                             the distillation methods

`sidelight VERB --help` describes each verb.""",
    "run": """
  sidelight run phone-watch
  sidelight run phone-watch --label-fraction 0.2 --methods kl pkdot --folds 5 --seeds 3 --dry-run
  sidelight run data/manifest.csv --available video --privileged eda ecg --target pain --group subject
  sidelight run experiment.yaml transport.epsilon=0.05 training.epochs=100 options.kl.temperature=2
  sidelight run data/hours.csv --available cheap --privileged reference --target co --protocol blocks --gap 24
  sidelight run experiment.yaml --seeds 1 --profile      also say where the time went
  sidelight run experiment.yaml --resume        continue an interrupted run
  sidelight run experiment.yaml --resume --scheduler tcp://node7:8786 --time-limit 3:30:00
  sidelight run phone-watch --methods huber --import my_method.py

An experiment.yaml holds the same settings, nested at the dots; `--dry-run` prints one to start from.
The settings of a method, options.NAME.SETTING, are listed by `sidelight methods NAME`.""",
    "suite": """
  sidelight suite suite.yaml
  sidelight suite suite.yaml --dry-run           read every data set, say what would be trained
  sidelight suite suite.yaml --resume            continue an interrupted suite, or add a data set to it
  sidelight suite suite.yaml --output runs/try seeds=1 training.epochs=10
  sidelight report runs/suite                    the report across the sets anew; of one set: runs/suite/NAME

A suite.yaml holds the settings that all sets share, as an experiment.yaml does, and under `sets` those of each set:
  methods: [kl, pkdot]
  seeds: 3
  sets:
    phone-watch: {}
    pain: {data: pain/manifest.csv, available: [video], privileged: [eda, ecg], target: [pain], group: subject}""",
    "sweep": """
  sidelight sweep phone-watch --methods pkdot training.learning_rate=1e-4..1e-2:log transport.k=10,30,60 --trials 20
  sidelight sweep phone-watch --methods kl options.kl.weight=0.5,1,4 options.kl.temperature=1..8:4      a grid: 3 x 4
  sidelight sweep experiment.yaml training.batch_size=32,64,128 --dry-run       how many networks would be trained
  sidelight sweep phone-watch --methods kl options.kl.weight=0.1..10:log --sampler tpe --trials 30
  sidelight sweep examples/paper/pkdot_biovid_b.yaml pkdot-fig6      a ready sweep of a paper, for any experiment
  sidelight sweep experiment.yaml ... --resume  the same command continues an interrupted sweep

Ranges: values (10,30,60), an interval (10..60), on a logarithmic scale (1e-4..1e-2:log), evenly spaced points of it
(1e-4..1e-2:log:5). An experiment.yaml may hold them in a section `sweep`. With values alone every combination is
drawn; with an interval, or with --trials, settings are drawn at random.
Ready sweeps: pkdot-fig6 (batch size x anchors), pkdot-fig7 (epsilon), amid-table6 (loss weights), osmd-ablations.
In every fold, each method, placebo and the baseline has equally many draws, chooses one on the fold's select rows, and
is tested with it alone (docs/sweeps.md).""",
    "inspect": """
  sidelight inspect phone-watch
  sidelight inspect data/manifest.csv --target pain --group subject
  sidelight inspect data/openface.csv --modality face=AU_ eda=gsr,scl
  sidelight inspect photos/study.yaml                     as an experiment reads it
  sidelight inspect prepared/mine --html mine.html        with pictures, as one file that can be mailed
  sidelight inspect data/hours.csv --target co --time timestamp""",
    "advise": """
  sidelight advise phone-watch
  sidelight advise data/manifest.csv --available video --privileged eda ecg --target pain --group subject
  sidelight advise synthetic-few-labels --label-fraction 0.25 --json""",
    "report": """
  sidelight report runs/phone-watch             also while the run is going on
  sidelight report runs/phone-watch --output report.html
  sidelight report runs/phone-watch --parquet results.parquet""",
    "status": """
  sidelight status runs/phone-watch             also while the run is going on
  sidelight status runs/phone-watch --state failed
  sidelight status runs/phone-watch --json""",
    "predict": """
  sidelight predict runs/phone-watch/student new_rows.csv
  sidelight predict student.safetensors new_rows.csv --output predictions.csv
  sidelight predict runs/study new/*.wav        recordings, read as in training""",
    "export": """
  sidelight export runs/phone-watch --onnx
  sidelight export runs/phone-watch --hub phone-activity                 (a folder with a model card)
  sidelight export student.safetensors --onnx --output student.onnx      (needs the extra: pip install ".[export]")""",
    "prepare": """
  sidelight prepare                             list the readers, one per public data set
  sidelight prepare biovid                      how to get the data, and the reader's options
  sidelight prepare biovid /data/biovid --check list what is missing, without any work
  sidelight prepare biovid /data/biovid prepared/biovid part=A classes=all
  sidelight prepare biovid --synthetic          biovid-synthetic/: a tiny data set of noise, for trying things out""",
    "windows": """
  sidelight windows data/                       print a first recordings.yaml: what the files of a session hold
  sidelight windows data/recordings.yaml prepared/mine
  sidelight windows data/recordings.yaml prepared/mine seconds=10 hop=5 --overwrite
  sidelight run prepared/mine --available face --privileged eda ecg""",
    "extract": """
  sidelight extract prepared/ucf features/ucf --encoder rgb=r3d18 --weights rgb=r3d18.safetensors
  sidelight run features/ucf --available rgb --privileged audio""",
    "refit": """
  sidelight refit runs/phone-watch              the best method again, on the rows of all folds
  sidelight predict runs/phone-watch/refit new_rows.csv""",
    "methods": "\n  sidelight methods\n  sidelight methods kl pkdot",
    "datasets": "\n  sidelight datasets",
    "doctor": "\n  sidelight doctor",
    "show": """
  sidelight show runs/phone-watch               what the run's student reads, how good it was and on what
  sidelight show student.safetensors --json
  sidelight show runs/phone-watch/refit""",
    "init": """
  sidelight init data/manifest.csv              writes data/experiment.yaml, to be edited
  sidelight init data/manifest.csv study/ --target pain --group subject --available video
  sidelight init phone-watch try.yaml
  sidelight run data/experiment.yaml --dry-run""",
    "compare": """
  sidelight compare runs/a runs/b               every row that both runs have: b − a, with its interval
  sidelight compare runs/a runs/b runs/c --json

Within one run: sidelight report RUN --between kl pkdot""",
    "describe": """
  sidelight describe data/                      data/metadata.csv names files: writes data/modalities.json
  sidelight describe data/ eda.rate=4 eda.unit=uS voice.seconds=3 --target pain --group subject
  sidelight inspect data/

docs/data.md describes every entry of modalities.json.""",
    "completion": """
  sidelight completion bash > ~/.local/share/bash-completion/completions/sidelight
  sidelight completion zsh >> ~/.zshrc
  sidelight completion fish > ~/.config/fish/completions/sidelight.fish""",
}
