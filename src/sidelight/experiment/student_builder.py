"""Builds the networks of one fold and seed, with fresh or copied weights; nothing here is trained or stored."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from sidelight.config import Config
from sidelight.experiment.fold import FoldData
from sidelight.experiment.provenance import Encoders
from sidelight.methods.context import FusionChoice
from sidelight.networks.build import build_network, feature_shape
from sidelight.networks.hallucination import HallucinationNetwork, freeze, make_hallucinators
from sidelight.networks.network import Network
from sidelight.networks.translation import TranslationNetwork


class StudentBuilder:
    """Builds the networks of one fold and seed.

    Args:
        config: the experiment's settings, with every default filled in.
        data: the fold's rows, which give the shapes.
        encoders: modality -> the user's own encoder, built anew for every network from the shape of one preprocessed
            row.
        initial_seed: the seed of first weights.
    """

    def __init__(self, config: Config, data: FoldData, encoders: Encoders, initial_seed: int):
        self.config, self.data, self.encoders, self.initial_seed = config, data, encoders, initial_seed
        self.available, self.privileged = data.available, data.privileged

    def seed(self) -> None:
        """Seed torch, so that the weights drawn next depend on the fold and the seed alone."""
        torch.manual_seed(self.initial_seed)

    def own_encoders(self, reads: Sequence[str]) -> dict[str, nn.Module]:
        """The user's own encoders of these modalities, with fresh weights."""
        made = {m: make(self.data.preprocessor.shapes[m]) for m, make in self.encoders.items()}
        return {m: encoder for m, encoder in made.items() if m in reads}

    def network(
        self, reads: Sequence[str], hallucinators: Mapping[str, nn.Module] | None = None, fusion: FusionChoice = ""
    ) -> Network:
        """A network with fresh weights that reads these modalities; every call gives the same weights."""
        self.seed()
        settings = self.config.network
        return build_network(
            {m: self.data.preprocessor.shapes[m] for m in reads},
            list(reads),
            len(self.data.dataset.class_names),
            replace(settings, fusion=fusion or settings.fusion),
            slots=self.data.modalities if hallucinators else list(reads),
            hallucinators=hallucinators,
            encoders=self.own_encoders(reads),
            size=self.data.dataset.size,
            drop=self.config.student.drop if list(reads) == self.available else 0,
        )

    def student(
        self, start: Network, hallucinators: Mapping[str, nn.Module] | None = None, fusion: FusionChoice = ""
    ) -> Network:
        """A student that starts from the weights of `start` wherever the two networks agree.

        With hallucinators it has the teacher's slots, so its fusion and head start from the teacher's too; without them
        only its encoders do. A `fusion` other than the experiment's, and the head after it, start from fresh weights.
        """
        slots = dict(hallucinators or {})
        student = self.network(self.available, slots, fusion)
        if self.config.student.init == "teacher":
            for m in self.available:
                student.encoders[m].load_state_dict(start.encoders[m].state_dict())
            if slots and not fusion:
                student.fusion.load_state_dict(start.fusion.state_dict())
                student.head.load_state_dict(start.head.state_dict())
        if self.config.student.freeze:
            for m in self.available:
                student.encoders[m] = freeze(student.encoders[m])
        return student

    def tnets(self, teacher: Network) -> dict[str, nn.Module]:
        """Privileged modality -> an untrained T-Net from the teacher's available features to that modality's."""
        self.seed()
        return make_hallucinators(feature_shape(teacher), self.available, self.privileged)

    def hallucination_networks(self, start: Network, target: Network | None = None) -> dict[str, nn.Module]:
        """Privileged modality -> a trainable network on the available ones, with encoders that start from `start`.

        Its features have the shape of those of `target` (by default, of `start`).
        """
        shapes, sources = feature_shape(target or start), feature_shape(start)
        self.seed()
        encoders = {m: start.encoders[m] for m in self.available}
        return {
            m: HallucinationNetwork(copy.deepcopy(encoders), {a: sources[a] for a in encoders}, shapes[m], slot=m)
            for m in self.privileged
        }

    def translation_networks(self, start: Network) -> dict[str, nn.Module]:
        """Privileged modality -> a network that translates available rows into its rows and encodes them."""
        shapes = feature_shape(start)
        self.seed()
        return {
            m: TranslationNetwork(
                {a: copy.deepcopy(start.encoders[a]) for a in self.available},
                {a: shapes[a] for a in self.available},
                self.data.preprocessor.shapes[m],
                copy.deepcopy(start.encoders[m]),
                shapes[m],
            )
            for m in self.privileged
        }
