"""Builds the networks of one fold and seed, with fresh or copied weights; it trains and stores nothing."""

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
from sidelight.utils.device import CPU


class StudentBuilder:
    """Builds the networks of one fold and seed.

    Args:
        config: the experiment's settings, with every default filled in.
        data: the fold's rows, which give the shapes.
        encoders: modality -> the user's own encoder, built anew for every network from the shape of one preprocessed
            row.
        initial_seed: the seed of initial weights.
        device: where the networks are. Weights are drawn on the CPU and then moved, so that every device starts from
            the same ones.
    """

    def __init__(
        self, config: Config, data: FoldData, encoders: Encoders, initial_seed: int, device: torch.device = CPU
    ):
        self.config, self.data, self.encoders, self.initial_seed = config, data, encoders, initial_seed
        self.device = device
        self.available, self.privileged = data.available, data.privileged

    def seed(self) -> None:
        """Seed torch, so that the weights drawn next depend on the fold and the seed alone."""
        torch.manual_seed(self.initial_seed)

    def own_encoders(self, reads: Sequence[str]) -> dict[str, nn.Module]:
        """The user's own encoders of these modalities, with fresh weights."""
        # All are built, whatever is read, so that the random numbers that they draw do not depend on `reads`.
        encoders = {m: build(self.data.preprocessor.shapes[m]) for m, build in self.encoders.items()}
        return {m: encoder for m, encoder in encoders.items() if m in reads}

    def network(
        self, reads: Sequence[str], hallucinators: Mapping[str, nn.Module] | None = None, fusion: FusionChoice = ""
    ) -> Network:
        """Build a network with fresh weights; every call gives the same weights.

        Args:
            reads: the modalities that the network reads.
            hallucinators: privileged modality -> the module that fills its slot.
            fusion: the fusion; "" for that of the settings.
        """
        self.seed()
        settings = self.config.network
        return build_network(
            {m: self.data.preprocessor.shapes[m] for m in reads},
            list(reads),
            len(self.data.dataset.class_names),
            replace(settings, fusion=fusion or settings.fusion),
            # With hallucinators the student has the teacher's slots, so it can start from the teacher's fusion.
            slots=self.data.modalities if hallucinators else list(reads),
            hallucinators=hallucinators,
            encoders=self.own_encoders(reads),
            size=self.data.dataset.size,
            drop=self.config.student.drop if list(reads) == self.available else 0,
        ).to(self.device)

    def student(
        self, start: Network, hallucinators: Mapping[str, nn.Module] | None = None, fusion: FusionChoice = ""
    ) -> Network:
        """Build a student that starts from the weights of `start` wherever the two networks have the same parts.

        With hallucinators it has the slots of the teacher, so its fusion and head start from the teacher's; without
        them only its encoders do. A fusion other than that of the settings, and the head after it, start from fresh
        weights.

        Args:
            start: the network to start from.
            hallucinators: privileged modality -> the module that fills its slot.
            fusion: the fusion; "" for that of the settings.
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
        made = make_hallucinators(feature_shape(teacher), self.available, self.privileged)
        return {m: tnet.to(self.device) for m, tnet in made.items()}

    def hallucination_networks(self, start: Network, target: Network | None = None) -> dict[str, nn.Module]:
        """Privileged modality -> a trainable network that hallucinates its features from the available modalities.

        Args:
            start: the network whose encoders the hallucination networks start from.
            target: the network whose feature shapes they produce; `start` by default.
        """
        shapes, start_shapes = feature_shape(target or start), feature_shape(start)
        sources = {m: start_shapes[m] for m in self.available}
        self.seed()
        networks: dict[str, nn.Module] = {}
        for m in self.privileged:
            # Each network gets copies of the encoders, because they are trained for its modality.
            encoders = {a: copy.deepcopy(start.encoders[a]) for a in self.available}
            networks[m] = HallucinationNetwork(encoders, sources, shapes[m], slot=m).to(self.device)
        return networks

    def translation_networks(self, start: Network) -> dict[str, nn.Module]:
        """Privileged modality -> a network that translates available inputs into its inputs, and encodes these."""
        shapes = feature_shape(start)
        sources = {m: shapes[m] for m in self.available}
        self.seed()
        networks: dict[str, nn.Module] = {}
        for m in self.privileged:
            encoders = {a: copy.deepcopy(start.encoders[a]) for a in self.available}
            reader = copy.deepcopy(start.encoders[m])
            inputs = self.data.preprocessor.shapes[m]
            networks[m] = TranslationNetwork(encoders, sources, inputs, reader, shapes[m]).to(self.device)
        return networks
