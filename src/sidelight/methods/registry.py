"""The registry of methods: name -> class. A new method is one line here."""

from __future__ import annotations

from sidelight.methods.adversarial import ADMD
from sidelight.methods.amid import AMID
from sidelight.methods.auto import Auto
from sidelight.methods.c2kd import C2KD
from sidelight.methods.contrastive import CCL, CRCD, CRD, GMC, NCE
from sidelight.methods.distillation import DistillationLoss
from sidelight.methods.frequency import FDCMKD
from sidelight.methods.hallucination_losses import CMKD, DASK, MERS
from sidelight.methods.hints import Autoencoder, FitNet
from sidelight.methods.mmanet import MMANet
from sidelight.methods.mst import MST
from sidelight.methods.mt_pkdot import MTPKDOT, MTPKDOTReleased
from sidelight.methods.multi_stage import MultiStageMethod
from sidelight.methods.osmd import OSMD
from sidelight.methods.pointwise import KL, MSE, Cosine
from sidelight.methods.relational import MAD, MMD, PKT, RKD, SP
from sidelight.methods.soft_labels import DIST, DKD
from sidelight.methods.structural import PKDOT, PKDOTReleased, PKDOTSidelight
from sidelight.methods.translation import MTNet
from sidelight.methods.wasserstein import WKDF, WKDL

METHODS: dict[str, type[DistillationLoss] | type[MultiStageMethod]] = {
    "auto": Auto,
    "kl": KL,
    "mse": MSE,
    "dkd": DKD,
    "dist": DIST,
    "wkd-l": WKDL,
    "cosine": Cosine,
    "fitnet": FitNet,
    "rkd": RKD,
    "sp": SP,
    "pkt": PKT,
    "mad": MAD,
    "mmd": MMD,
    "wkd-f": WKDF,
    "fdcmkd": FDCMKD,
    "nce": NCE,
    "crd": CRD,
    "crcd": CRCD,
    "ccl": CCL,
    "gmc": GMC,
    "autoencoder": Autoencoder,
    "mers": MERS,
    "cmkd": CMKD,
    "dask": DASK,
    "admd": ADMD,
    "mtnet": MTNet,
    "amid": AMID,
    "osmd": OSMD,
    "c2kd": C2KD,
    "mst": MST,
    "mmanet": MMANet,
    "pkdot": PKDOT,
    "pkdot-released": PKDOTReleased,
    "pkdot-sidelight": PKDOTSidelight,
    "mt-pkdot": MTPKDOT,
    "mt-pkdot-released": MTPKDOTReleased,
}
CONTROLS = ("baseline", "teacher")
"""The controls of every comparison. They are added to each run, so `methods` does not name them."""
