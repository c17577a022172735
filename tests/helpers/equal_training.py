"""In each of several processes: training with the others equals training alone with the whole batch.

    python -m helpers.equal_training METHOD:TASK[:BALANCE] … NETWORK …

Run by tests/training/test_distributed.py in processes of their own. `NETWORKS` names networks that methods do not have
by default; a balance is a kind of `balance.kind`.
"""

from __future__ import annotations

import copy
import functools
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sidelight.config import BalanceConfig, TrainingConfig
from sidelight.data.batch import Batch
from sidelight.errors import ConfigError, RunError, SidelightWarning
from sidelight.methods import Distillation, Supervised, Teacher
from sidelight.methods.base import Method
from sidelight.methods.relational import SP
from sidelight.methods.teacher_outputs import OnlineOutputs
from sidelight.networks.backbones.backbone import Backbone
from sidelight.networks.backbones.base import running_statistics
from sidelight.networks.build import build_network
from sidelight.networks.network import Network, compute_outputs
from sidelight.tasks import Task
from sidelight.testing import Subject, make_subject
from sidelight.testing.synthetic import (
    AVAILABLE,
    NETWORK,
    PRIVILEGED,
    SHAPES,
    make_network,
    make_rows,
    task_of,
    trained_teacher,
)
from sidelight.training.fit import check_world
from sidelight.training.loop import TrainingLoop
from sidelight.utils.distributed import (
    alone,
    average,
    barrier,
    check_devices,
    check_same,
    from_first,
    in_all,
    joined,
    share,
    share_rows,
    total,
)

BOUND = 1e-10
TASK = task_of("classification")
Record = dict[str, Tensor]


# what is trained ------------------------------------------------------------------------------------------------------


class Normalised(nn.Module):
    """An encoder of vectors with batch normalisation: the usual layer, and one without weights or momentum."""

    batch_statistics = True

    def __init__(self, size: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(size, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Linear(8, 8, bias=False),
            nn.BatchNorm1d(8, affine=False, momentum=None),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        with running_statistics(self.layers, self.training and len(x) == 1):
            out: Tensor = self.layers(x)
        return out


def supervised(rows: Batch, build: Callable[[], Network], task: Task = TASK) -> Subject:
    """The task loss of a network."""

    def factory(dtype: torch.dtype) -> Method:
        torch.manual_seed(0)
        return Supervised(build().to(dtype), task)

    return Subject(factory, rows, tuple(SHAPES), ())


def teacher(task: str) -> Subject:
    """The task loss alone on every modality."""
    return supervised(make_rows(task, "both"), lambda: make_network(SHAPES, task_of(task)), task_of(task))


def normalised() -> Subject:
    """Batch normalisation in encoders; the watch is there in few rows, so in some batches one process has none."""
    rows = make_rows("classification", "both")
    present = rows.present | {"watch": torch.arange(len(rows)) % 7 == 3}
    reads = ("phone", "watch")
    return supervised(
        replace(rows, labelled=torch.ones_like(rows.labelled), target=rows.target.clamp(min=0), present=present),
        lambda: build_network(SHAPES, reads, 3, NETWORK, encoders={m: Normalised(SHAPES[m][0]) for m in reads}),
    )


def pictures() -> Subject:
    """ResNet-18 on pictures."""
    g = torch.Generator().manual_seed(0)
    n, shape = 24, (3, 24, 24)
    known = torch.ones(n, dtype=torch.bool)
    rows = Batch({"rgb": torch.randn(n, *shape, generator=g)}, torch.arange(n) % 3, known, {}, torch.arange(n), {})
    return supervised(
        rows,
        lambda: build_network({"rgb": shape}, ("rgb",), 3, NETWORK, encoders={"rgb": Backbone("resnet18", shape, 8)}),
    )


def dropped() -> Subject:
    """A network for any subset of its modalities, which training leaves out at random (`student.drop`)."""
    rows = make_rows("classification", "both")
    return supervised(rows, lambda: build_network(SHAPES, tuple(SHAPES), 3, NETWORK, drop=0.4))


def sequences() -> Subject:
    """Signals of varying length, cut to the longest row of a batch; one is far longer than the others."""
    rows = make_rows("classification")
    g = torch.Generator().manual_seed(1)
    lengths = torch.randint(3, 9, (len(rows),), generator=g)
    lengths[5] = 40
    pulse = torch.randn(len(rows), 40, 2, generator=g) * (torch.arange(40) < lengths[:, None])[:, :, None]
    rows = replace(rows, inputs=rows.inputs | {"pulse": pulse}, lengths={"pulse": lengths}, least_steps={"pulse": 6})
    shapes: dict[str, tuple[int, ...]] = {**SHAPES, "pulse": (40, 2)}
    return supervised(rows, lambda: build_network(shapes, ("phone", "pulse"), 3, NETWORK))


def online() -> Subject:
    """Two teachers that are run on every batch, one of which teaches some of the rows alone."""
    rows = make_rows("classification", "both")
    networks = [trained_teacher("classification", seed) for seed in (0, 1)]
    network_of = torch.arange(len(rows)) % 3 % 2

    def factory(dtype: torch.dtype) -> Method:
        student = make_network(AVAILABLE, TASK, seed=3)
        sample = compute_outputs(networks[0], rows, rows.index[:1])
        outputs = OnlineOutputs(networks, sample, network_of)
        mask = torch.arange(len(rows)) % 5 != 2
        return copy.deepcopy(Distillation(student, Teacher(outputs, mask=mask), TASK, {"sp": SP()}, rows)).to(dtype)

    return Subject(factory, rows, AVAILABLE, PRIVILEGED)


NETWORKS: dict[str, Callable[[], Subject]] = {
    "normalised": normalised,
    "pictures": pictures,
    "dropped": dropped,
    "sequences": sequences,
    "online": online,
}


def subject_of(name: str) -> tuple[Subject, BalanceConfig]:
    """The subject of METHOD:TASK[:BALANCE] or NETWORK."""
    if name in NETWORKS:
        return NETWORKS[name](), BalanceConfig()
    method, task, kind = [*name.split(":"), "method"][:3]
    subject = teacher(task) if method == "teacher" else make_subject(method, task)
    return subject, BalanceConfig(kind)  # type: ignore[arg-type]


# how ------------------------------------------------------------------------------------------------------------------


SETTINGS = TrainingConfig(epochs=2, patience=2, batch_size=7, learning_rate=0.01, least_steps=1)


def train(method: Method, subject: Subject, balance: BalanceConfig, settings: TrainingConfig = SETTINGS) -> Record:
    """Train in float64; every term, gradient and score, the final state, and the outputs of the deployed network."""
    rows = subject.rows.to(torch.float64)
    loop = TrainingLoop(method, settings, len(rows), 3, balance, None, 0, torch.device("cpu"))
    found: Record = {}

    def keep(optimizer: torch.optim.Optimizer, *_: object) -> None:
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        found[f"gradient {len(found)}"] = torch.cat([g.reshape(-1) for g in grads])

    for optimizer in loop.optimizers.values():
        optimizer.register_step_pre_hook(keep)
    drawn = rows.labelled.nonzero()[:, 0] if method.learns_from == "labelled" else torch.arange(len(rows))
    fold = subject.teacher_fold if method.within_teacher_folds else None
    if method.reads is not None:
        rows = replace(rows.select_modalities(method.reads), present=rows.present)
    for _ in range(settings.epochs):
        loop.train_epoch(rows, drawn, fold, rows)
    for record in loop.history.epochs:
        found |= {f"{name} {record['epoch']}": torch.tensor(v) for name, v in record.items() if name != "seconds"}
    found |= {name: value.clone() for name, value in method.state_dict().items()}
    if subject.exports:
        said = compute_outputs(method.deployed_network(), rows, torch.arange(len(rows)))
        found |= {"prediction": said.prediction, "fused": said.fused}
    return found


def compare(one: Record, other: Record) -> tuple[float, str]:
    """The largest difference, and where it is."""
    assert one.keys() == other.keys()
    worst = (0.0, "")
    for name, value in one.items():
        apart = (value.double() - other[name].double()).abs()
        apart = apart.masked_fill(value.isnan() & other[name].isnan(), 0)
        worst = max(worst, (float(apart.max()) if apart.numel() else 0.0, name))
    return worst


@functools.cache
def train_alone(name: str) -> tuple[Subject, BalanceConfig, TrainingConfig, Record]:
    """What is trained, how, and what one process gives alone."""
    with alone():
        subject, balance = subject_of(name.removesuffix(" in pieces"))
        # AdamW makes a step of the learning rate out of the rounding of a gradient that is nearly 0, which a deep
        # network has.
        settings = replace(SETTINGS, optimizer="sgd", learning_rate=0.001) if name == "pictures" else SETTINGS
        return subject, balance, settings, train(subject.fresh(torch.float64), subject, balance, settings)


def prepare(*names: str) -> None:
    """Before the processes are forked: what each of them would make anew."""
    warnings.simplefilter("ignore", SidelightWarning)
    for name in names:
        if name not in CHECKS:
            train_alone(name)


def check_training(name: str) -> None:
    """Of one that ends with "in pieces", the encoders of each process read their rows in two pieces."""
    from helpers import equal_training  # this module, as it was when the processes were forked

    subject, balance, settings, mine = equal_training.train_alone(name)
    settings = replace(settings, accumulate=2) if name.endswith(" in pieces") else settings
    apart, where = compare(mine, train(subject.fresh(torch.float64), subject, balance, settings))
    print(f"{name}: {apart:.1e} ({where}) over {len(mine)} values")
    assert apart <= BOUND, name


# collectives ----------------------------------------------------------------------------------------------------------


def check_collectives(rank: int, size: int) -> None:
    """Tensors that are not contiguous, unequal numbers of rows, gradients, and values of process 0."""
    x = torch.arange(12.0).view(3, 4) + 100 * rank
    every = [torch.arange(12.0).view(3, 4) + 100 * k for k in range(size)]
    for view in (lambda t: t.t(), lambda t: t[:, ::2], lambda t: t[1:, 1:3], lambda t: t[:1].expand(5, 4)):
        assert all(torch.equal(a, view(b)) for a, b in zip(share(view(x)), every))
        assert torch.equal(total(view(x)), torch.stack([view(t) for t in every]).sum(0))
        (mean,) = average([view(x)])
        torch.testing.assert_close(mean, torch.stack([view(t) for t in every]).mean(0))
    counts = [3 - k % 2 * 2 for k in range(size)]  # 3, 1, 3, 1
    rows = x[: counts[rank]].t().contiguous().t().requires_grad_()
    whole = share_rows(rows, counts)
    assert torch.equal(whole, torch.cat([t[:n] for t, n in zip(every, counts)]))
    (grad,) = torch.autograd.grad((whole * torch.arange(float(len(whole)))[:, None]).sum(), rows)
    start = sum(counts[:rank])
    assert torch.equal(grad, size * torch.arange(float(start), start + counts[rank])[:, None].expand_as(grad))
    assert average([None, x[0]])[0] is None
    assert from_first({"rank": rank, "text": "ä" * (rank + 1), "half": [0.1, None]}) == {
        "rank": 0, "text": "ä", "half": [0.1, None],
    }  # fmt: skip


def check_refusals(rank: int, size: int) -> None:
    """Each is a sentence, in every process."""
    with pytest.raises(RunError, match=f"^process {size - 1} of {size} has other data than process 0. All of them"):
        check_same(settings="the same", data="others" if rank == size - 1 else "these")
    with pytest.raises(ConfigError, match="processes 0 and 1 would both train on cuda:1: set "):
        check_devices(torch.device("cuda", 1))
    check_devices(torch.device("cuda", rank))
    with pytest.raises(ConfigError, match=f"^{size} processes cannot share batches of training.batch_size=1 rows"):
        check_world(replace(SETTINGS, batch_size=1))

    def fail_in_last() -> str:
        if rank == size - 1:
            raise ConfigError("here")
        return "done"

    with pytest.raises(ConfigError if rank == size - 1 else RunError, match=r"here|another one failed"):
        in_all(fail_in_last)
    assert in_all(lambda: "done") == "done"


# random numbers -------------------------------------------------------------------------------------------------------


def check_random_encoders(rank: int, size: int) -> None:
    """An encoder that draws: other numbers for every process, the same ones in a second run, none of the others'."""
    subject = supervised(
        make_rows("classification", "both"),
        lambda: build_network(
            SHAPES, ("phone", "watch"), 3, NETWORK,
            encoders={m: nn.Sequential(nn.Linear(SHAPES[m][0], 8), nn.Dropout(0.5)) for m in ("phone", "watch")},
        ),
    )  # fmt: skip
    records, states = [], []
    for _ in range(2):
        records.append(train(subject.fresh(torch.float64), subject, BalanceConfig()))
        states.append(torch.get_rng_state())
    assert compare(*records)[0] == 0
    assert torch.equal(*states)
    for name in ("network.head.weight", "network.encoders.phone.0.weight"):
        assert all(torch.equal(x, records[0][name]) for x in share(records[0][name]))
    assert all(torch.equal(x, states[0]) for x in share(states[0]))  # what follows the encoders draws the same
    with alone():
        assert compare(records[0], train(subject.fresh(torch.float64), subject, BalanceConfig()))[0] > 1e-3

    seen: list[Tensor] = []
    method = subject.fresh(torch.float32)
    method.get_submodule("network.encoders.phone.1").register_forward_hook(lambda _m, _i, out: seen.append(out == 0))
    equal = Batch(
        {m: torch.ones(2 * size, *SHAPES[m]) for m in ("phone", "watch")}, torch.zeros(2 * size, dtype=torch.int64),
        torch.ones(2 * size, dtype=torch.bool), {}, torch.arange(2 * size), {},
    )  # fmt: skip
    method.get_submodule("network.encoders.phone.0").requires_grad_(False).weight.data.fill_(1)  # type: ignore[union-attr]
    loop = TrainingLoop(
        method, TrainingConfig(epochs=9, least_steps=1), 2 * size, 3, BalanceConfig(), None, 0, torch.device("cpu")
    )
    for _ in range(2):
        loop.train_epoch(equal, torch.arange(2 * size), None, equal)
    steps = [mask for mask in seen if mask.any()]  # without those of evaluations
    assert not torch.equal(steps[0], steps[1])
    assert len({mask.numpy().tobytes() for mask in share(steps[0].float())}) == size


CHECKS: dict[str, Callable[[int, int], Any]] = {
    "collectives": check_collectives,
    "refusals": check_refusals,
    "random": check_random_encoders,
}


def main(names: list[str]) -> None:
    warnings.simplefilter("ignore", SidelightWarning)
    with joined() as world:
        for name in names:
            start = time.process_time()
            if name in CHECKS:
                CHECKS[name](*world)
            else:
                check_training(name)
            print(
                f"{name} done by process {world.rank} of {world.size} in {time.process_time() - start:.1f} s",
                flush=True,
            )
        barrier()


if __name__ == "__main__":
    main(sys.argv[1:])
