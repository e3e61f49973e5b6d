"""A calibration of a world model whose every number is known."""

import torch

from clutr.experiments.live.calibration import Calibration
from clutr.experiments.live.odds import Odds
from clutr.probes.event_probability import BINS
from clutr.probes.trust import TrustModel
from clutr.world_model.linear_probe import LinearProbe


def known(limit: float = 0.0, gain: float = 0.1, width: int = 32) -> Calibration:
    """Dreams hold for e^2 - 1 steps, at least e^1 - 1; the odds of leaving the road fall with the reading.

    Args:
        limit: surprise above which the alarm is raised.
        gain: of the risk's Brier score over a constant.
        width: of the memory's features.
    """
    probe = LinearProbe(torch.zeros(width, 1), torch.tensor([2.0]), 0.0)
    trust_figures = {
        "moments": 40, "levels": 8, "rank_correlation": [0.6, 0.5, 0.7], "error": [2.0, 1.5, 2.5], "steps": 50,
        "constant_error": [3.0, 2.5, 3.5], "coverage": [0.91, 0.85, 0.95], "false_alarms": [0.05, 0.01, 0.1],
        "alarms": {"the picture upside down": 1.0}, "splits": "test and validation splits",
    }  # fmt: skip
    bins = [{"said": x / 5, "happened": x / 5, "interval": [x / 5, x / 5 + 0.1]} for x in range(BINS)]
    risk_figures = {
        "moments": 30, "levels": 8, "share": 0.2, "bins": bins, "brier": [0.1, 0.08, 0.12], "auroc": 0.8, "steps": 25,
        "constant_brier": [0.2, 0.15, 0.25], "gain": [gain, gain - 0.05, gain + 0.05], "draws": 8,
    }  # fmt: skip
    return Calibration(TrustModel(probe, 1.0, limit), trust_figures, Odds(-1.0, 0.5), risk_figures)
