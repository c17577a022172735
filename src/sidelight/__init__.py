"""Train with every sensor. Deploy with the ones you keep.

Privileged cross-modal knowledge distillation: a teacher on every sensor, a student that reads only the sensors that
remain, and a comparison that says whether it helped.

    import sidelight as sl
    study = sl.compare("phone-watch", methods=["kl", "pkdot"])
    study.table()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sidelight.utils.version import __version__ as __version__

if TYPE_CHECKING:
    from sidelight.advice import advise
    from sidelight.config import Config
    from sidelight.data import Dataset, load
    from sidelight.data.builtin.synthetic import synthetic
    from sidelight.estimators import PrivilegedClassifier, PrivilegedRegressor
    from sidelight.experiment import Study, compare, run
    from sidelight.experiment.refit import refit
    from sidelight.experiment.sweep import sweep
    from sidelight.export import Student, load_student
    from sidelight.inspection import inspect
    from sidelight.suite import Suite, run_suite

_WHERE = {
    "Config": "config",
    "advise": "advice",
    "Dataset": "data",
    "PrivilegedClassifier": "estimators",
    "PrivilegedRegressor": "estimators",
    "Student": "export",
    "Study": "experiment",
    "Suite": "suite",
    "compare": "experiment",
    "inspect": "inspection",
    "load": "data",
    "load_student": "export",
    "refit": "experiment.refit",
    "run": "experiment",
    "run_suite": "suite",
    "sweep": "experiment.sweep",
    "synthetic": "data.builtin.synthetic",
}
__all__ = [
    "Config",
    "Dataset",
    "PrivilegedClassifier",
    "PrivilegedRegressor",
    "Student",
    "Study",
    "Suite",
    "advise",
    "compare",
    "inspect",
    "load",
    "load_student",
    "refit",
    "run",
    "run_suite",
    "sweep",
    "synthetic",
]


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first asked for, so that `import sidelight` costs nothing."""
    if name in _WHERE:
        return getattr(import_module(f"sidelight.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'sidelight' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
