"""A method that keeps the contract, and methods that break it in one way each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from helpers.support import AVAILABLE, PRIVILEGED, task_of
from sidelight.data.batch import Batch
from sidelight.losses.common import mean_over_rows
from sidelight.methods import Method, Step, TrainState
from sidelight.networks.hallucination import TNet, freeze
from sidelight.networks.modality_imputer import ModalityImputer
from sidelight.networks.network import Network, Output


class Sound(Method):
    """A method that keeps the contract: a student, a critic that steps first, a frozen part, a buffer that is trained.

    The critic learns to tell the student's fused vectors from a fixed teacher's; the student learns the task, a T-Net
    for "watch" from its own features, and to please the critic.
    """

    available, privileged = AVAILABLE, PRIVILEGED
    learns_from = "all"

    def __init__(self, dtype: torch.dtype):
        torch.manual_seed(0)
        super().__init__(task_of("classification"))
        tnet = TNet({"phone": (1, 8)}, (1, 8), slot="watch")
        tnet.trained_steps += 1
        self.student = Network({"phone": nn.Sequential(nn.Linear(6, 8), nn.ReLU())}, Fusion(), nn.Linear(8, 3))
        self.student.hallucinators["watch"] = freeze(tnet)
        self.critic = nn.Linear(8, 1)
        self.frozen = freeze(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)))
        self.register_buffer("seen", torch.zeros(()))
        self.said = torch.randn(24, 8)
        self.to(dtype)
        self.said = self.said.to(dtype)

    def steps(self, batch: Batch, state: TrainState) -> Iterator[Step]:
        self.seen += 1
        with torch.no_grad():
            fused = self.student(batch).fused
        real, made = self.frozen(self.said[batch.index]), self.frozen(fused)
        yield Step("critic", {"critic": self.critic(made).square().mean() + (1 - self.critic(real)).square().mean()})
        yield Step("main", self.main(batch, self.student(batch)))

    def main(self, batch: Batch, said: Output) -> dict[str, Tensor]:
        pleased = (1 - self.critic(self.frozen(said.fused))).square().mean()
        return {"task": self.task.loss(said.prediction, batch.target, batch.labelled), "please": 0.01 * pleased}

    def groups(self) -> dict[str, list[nn.Parameter]]:
        trained = {"critic": self.critic, "main": self.student}
        return {name: [p for p in part.parameters() if p.requires_grad] for name, part in trained.items()}

    def deployed_network(self) -> Network:
        return self.student


class Fusion(nn.Module):
    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        return sum((f.mean(1) for f in features.values()), torch.zeros(()))


# methods that are broken in one way each ------------------------------------------------------------------------------


class VectorTerm(Sound):
    def main(self, batch, said):
        return super().main(batch, said) | {"please": said.fused.square().mean(1)}


class CountsOnly(Sound):
    """Counts discordant pairs: differentiable in form, with a gradient of zero."""

    def main(self, batch, said):
        apart = said.fused.detach().mean(1)
        pairs = (apart[:, None] - apart[None]) * (batch.index[:, None] - batch.index[None]) < 0
        return super().main(batch, said) | {"discordant": pairs.to(said.fused).mean() + 0 * said.fused.sum()}


class IgnoresTheTeacher(Sound):
    """Its critic compares the student with a constant."""

    def __init__(self, dtype):
        super().__init__(dtype)
        self.constant = torch.ones_like(self.said)

    def steps(self, batch, state):
        self.said, teacher = self.constant, self.said
        yield from super().steps(batch, state)
        self.said = teacher


class NumberTerm(Sound):
    def main(self, batch, said):
        return super().main(batch, said) | {"please": 0.0}


class NaNOfUnlabelled(Sound):
    """Masks by multiplication what is NaN where there is no label."""

    def main(self, batch, said):
        weight = torch.where(batch.labelled, 1.0, torch.nan).to(said.prediction)
        wrong = (said.prediction.logsumexp(1) * weight * batch.labelled).mean()
        return super().main(batch, said) | {"wrong": wrong}


class VarianceOfOne(Sound):
    def main(self, batch, said):
        return super().main(batch, said) | {"spread": said.fused.var(0).mean()}


class RootOfNothing(Sound):
    """A finite value with an infinite gradient where two rows are the same."""

    def main(self, batch, said):
        apart = (said.fused - said.fused.roll(1, 0)).square().sum(1)
        return super().main(batch, said) | {"apart": 0.01 * apart.sqrt().mean()}


class DividesByPresent(Sound):
    def main(self, batch, said):
        there = batch.present["watch"]
        return super().main(batch, said) | {"watch": (said.fused.mean(1) * there).sum() / there.sum()}


class SinglePrecision(Sound):
    def main(self, batch, said):
        return {name: value.float() for name, value in super().main(batch, said).items()}


class TwoGroups(Sound):
    def groups(self):
        return super().groups() | {"again": list(self.critic.parameters())}


class NoGroup(Sound):
    def groups(self):
        return {name: params[1:] for name, params in super().groups().items()}


class FrozenInGroup(Sound):
    def groups(self):
        return super().groups() | {"frozen": list(self.frozen.parameters())}


class StrangerInGroup(Sound):
    def groups(self):
        return super().groups() | {"stranger": [nn.Parameter(torch.zeros(2))]}


class UnknownGroup(Sound):
    def steps(self, batch, state):
        yield Step("student", self.main(batch, self.student(batch)))


class TermsOfNothing(Sound):
    def steps(self, batch, state):
        yield from super().steps(batch, state)
        yield Step("critic", {"nothing": self.said.sum()})


class MovesAnother(Sound):
    """Shrinks the student's head in the critic's step."""

    def steps(self, batch, state):
        steps = super().steps(batch, state)
        yield next(steps)
        with torch.no_grad():
            self.student.head.weight.mul_(0.99)
        yield from steps


class MovesAfterwards(Sound):
    def steps(self, batch, state):
        yield from super().steps(batch, state)
        with torch.no_grad():
            self.critic.weight.mul_(0.99)


class FrozenStatistics(Sound):
    """Forgets that `train()` reaches the batch normalisation of a frozen part."""

    def __init__(self, dtype):
        super().__init__(dtype)
        self.frozen = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8, affine=False)).to(dtype).requires_grad_(False)

    def steps(self, batch, state):
        self.frozen.train(len(batch) > 1)
        return super().steps(batch, state)


class NeverSteps(Sound):
    def steps(self, batch, state):
        yield Step("main", self.main(batch, self.student(batch)))


class Exports(Sound):
    """The base of those whose exported network is at fault."""

    network: type[Network]

    def deployed_network(self):
        made = self.network(self.student.encoders, self.student.fusion, self.student.head, self.student.hallucinators)
        made.said = self.said
        return made


class ReadsPrivileged(Exports):
    def deployed_network(self):
        encoders = {**self.student.encoders, "pulse": nn.Flatten()}
        return Network(encoders, self.student.fusion, self.student.head)


class ReadsPrivilegedWhereItIs(Exports):
    class network(Network):
        def forward(self, batch):
            said = super().forward(batch)
            shift = batch.inputs["watch"].sum(1, keepdim=True) if "watch" in batch.inputs else 0.0
            return replace(said, prediction=said.prediction + shift)


class NeedsPrivileged(Exports):
    class network(Network):
        def forward(self, batch):
            assert len(batch.inputs["watch"]) == len(batch)
            return super().forward(batch)


class ReadsTheTarget(Exports):
    class network(Network):
        def forward(self, batch):
            said = super().forward(batch)
            return replace(said, prediction=said.prediction + batch.target[:, None])


class RemembersTheRow(Exports):
    class network(Network):
        def forward(self, batch):
            said = super().forward(batch)
            return replace(said, prediction=said.prediction + self.said[batch.index, :3])


class PeeksAtTheMissing(Sound):
    """Completes what is missing, and adds what stands there all the same."""

    available, privileged = ("phone", "pulse"), ("watch",)

    class network(Network):
        def forward(self, batch):
            said = super().forward(batch)
            peeked = batch.inputs["pulse"].sum((1, 2)).nan_to_num()[:, None] if "pulse" in batch.inputs else 0
            return replace(said, prediction=said.prediction + peeked / 1000)

    def __init__(self, dtype):
        super().__init__(dtype)
        encoders = {**self.student.encoders, "pulse": nn.Sequential(nn.Flatten(), nn.Linear(16, 8))}
        completion = ModalityImputer(dict.fromkeys(encoders, (1, 8)), 0.3)
        self.student = self.network(encoders, Fusion(), nn.Linear(8, 3), self.student.hallucinators, completion)
        self.to(dtype)

    def main(self, batch, said):
        return super().main(batch, said) | said.losses


class NoExport(Sound):
    def deployed_network(self):
        raise TypeError("deployed_network() is not written")


class AttendsOverTheBatch(Exports):
    class network(Network):
        def forward(self, batch):
            said = super().forward(batch)
            weights = (said.fused @ said.fused.T).softmax(1)
            return replace(said, prediction=self.head(weights @ said.fused))


class NormalisesByTheBatch(Exports):
    class network(Network):
        def forward(self, batch):
            said = super().forward(batch)
            z = nn.functional.batch_norm(said.fused, None, None, training=True)
            return replace(said, prediction=self.head(z))


class KnowsItsPlace(Exports):
    class network(Network):
        def forward(self, batch):
            said = super().forward(batch)
            first = (torch.arange(len(batch)) < len(batch) - 1).to(said.prediction)[:, None]
            return replace(said, prediction=said.prediction * (1 + first) if len(batch) > 1 else said.prediction * 2)


class UntrainedTNet(Sound):
    def __init__(self, dtype):
        super().__init__(dtype)
        self.student.hallucinators["watch"].trained_steps.zero_()


class StateOutside(Sound):
    """Keeps the number of steps, which weighs a term, in a plain attribute."""

    count = 0

    def main(self, batch, said):
        self.count += 1
        terms = super().main(batch, said)
        return terms | {"please": terms["please"] * 0.5**self.count}


class UnseededChoice(Sound):
    made = 0

    def __init__(self, dtype):
        super().__init__(dtype)
        UnseededChoice.made += 1
        self.scale = 1 + 0.001 * UnseededChoice.made

    def main(self, batch, said):
        return {name: value * self.scale for name, value in super().main(batch, said).items()}


class WrongSign(Sound):
    def main(self, batch, said):
        return {name: -value for name, value in super().main(batch, said).items()}


class GrowsAway(Sound):
    def __init__(self, dtype):
        super().__init__(dtype)
        self.calls = 0

    def main(self, batch, said):
        self.calls += 1
        return {name: value + 0.5 * self.calls for name, value in super().main(batch, said).items()}


class NormalisesInPlace(Sound):
    def main(self, batch, said):
        batch.inputs["phone"].mul_(0.5)
        return super().main(batch, said)


class LabelsTheUnlabelled(Sound):
    def main(self, batch, said):
        terms = super().main(batch, said)
        batch.labelled[:] = True
        return terms


class MarksAllPresent(Sound):
    def main(self, batch, said):
        batch.present["watch"][:] = True
        return super().main(batch, said)


class ReadsHiddenTargets(Sound):
    def main(self, batch, said):
        same = (batch.target[:, None] == batch.target[None]).to(said.fused)
        return super().main(batch, said) | {"same": (same * (said.fused @ said.fused.T)).mean() * 1e-3}


class IndexesByHiddenTargets(Sound):
    def main(self, batch, said):
        return super().main(batch, said) | {"all": nn.functional.cross_entropy(said.prediction, batch.target) * 1e-3}


class Stackable(Sound):
    """A sound method that can be trained stacked: the student learns the task and a fixed teacher's fused vectors."""

    stackable = True
    steps, groups = Method.steps, Method.groups

    def __init__(self, dtype: torch.dtype):
        super().__init__(dtype)
        self.critic.requires_grad_(False)
        self.frozen = nn.Identity()

    def terms(self, batch: Batch, state: TrainState) -> dict[str, Tensor]:
        made = self.student(batch)
        per_row = (made.fused - self.said[batch.index]).square().mean(1)
        task = self.task.loss(made.prediction, batch.target, batch.counted)
        return {"task": task, "please": 0.1 * self.mean(per_row, batch)}

    def mean(self, per_row: Tensor, batch: Batch) -> Tensor:
        return mean_over_rows(per_row, batch.valid)


class CountsPadding(Stackable):
    def mean(self, per_row: Tensor, batch: Batch) -> Tensor:
        return per_row.mean()


class BranchesOnValues(Stackable):
    def terms(self, batch: Batch, state: TrainState) -> dict[str, Tensor]:
        terms = super().terms(batch, state)
        return terms if batch.counted.any() else {"task": terms["task"] * 0, "please": terms["please"] * 0}
