"""The encouraging loss, for fairseq (``--user-dir el_fairseq``) and for plain PyTorch.

Importing the package registers the criterion ``encouraging_loss`` and lets torch's safe loader
read fairseq's checkpoints, where fairseq is installed. The loss itself needs torch alone.
"""

import logging
import sys

from .loss import EncouragingLoss, encouraging_loss, linear_encouraging_loss
from .runs.checkpoints import trust_fairseq_checkpoints

__all__ = [
    "EncouragingLoss",
    "EncouragingLossCriterion",
    "encouraging_loss",
    "linear_encouraging_loss",
]


def _import_fairseq():
    """Import fairseq and with it the criterion; returns what is wrong, or ``None``."""
    # Importing fairseq makes every library's debugging messages print; how much is logged, and
    # where, stays as it was.
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        import fairseq  # noqa: F401
    except Exception as error:  # stock fairseq fails with a ValueError on Python 3.11 and later
        return f"{type(error).__name__}: {error}"
    finally:
        root.setLevel(level)
        root.handlers = handlers
    from . import criterion  # noqa: F401

    trust_fairseq_checkpoints()
    return None


def _runs_own_command():
    """Whether this is ``python -m el_fairseq.X``: most of those do without fairseq.

    Those that need it import it themselves; importing it takes seconds. While Python looks for
    the module to run, ``-m`` stands in the place of its path.
    """
    words = getattr(sys, "orig_argv", [])
    return sys.argv[:1] == ["-m"] and any(word.startswith("el_fairseq.") for word in words)


_fairseq_problem = None if _runs_own_command() else _import_fairseq()


def __getattr__(name):
    if name != "EncouragingLossCriterion":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    problem = _fairseq_problem or _import_fairseq()
    if problem is not None:
        raise ImportError(
            f"el_fairseq.{name} needs fairseq, which does not import here ({problem}); "
            "install one: pip install ve-fairseq==0.12.3 (Python 3.11 and 3.12) or "
            "fairseq==0.12.2 (Python 3.8). The plain loss works without."
        )
    from .criterion import EncouragingLossCriterion

    return EncouragingLossCriterion
