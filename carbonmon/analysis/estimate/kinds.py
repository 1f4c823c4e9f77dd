"""What jobs of a kind were measured to draw, as a part of their GPUs' TDP × hours; pure.

Measured with the GPUs' own sensors by Dodge et al. 2022 (arXiv:2206.05229, as printed at
docs.codecarbon.io/latest/introduction/model_examples), with V100 taken as boards of 300 W, A100 of 400 W and
P40 of 250 W; and of BLOOM-1b7 by the emissions files in the model's repository, 8 × A40 of 300 W.
"""

from __future__ import annotations

from carbonmon.core.model import Uncertainty
from carbonmon.core.records import NamedTuple


class Kind(NamedTuple):
    """The middle of what was measured, and the ends of the range: below the least measured, and the TDP."""

    ratio: float
    low_ratio: float
    measured: str

    @property
    def uncertainty(self) -> Uncertainty:
        """The range about the middle."""
        return Uncertainty(
            1.0 - self.low_ratio / self.ratio,
            1.0 / self.ratio - 1.0,
            f"{self.low_ratio:g} to 1 of TDP × hours: {self.measured}",
        )


KINDS = {
    "pretraining": Kind(
        0.70,
        0.40,
        "measured 0.43 (BERT), 0.70 (a transformer of 6 B), 0.75, 0.86 and 0.92 (ViT base, large, huge; all "
        "Dodge et al. 2022, arXiv:2206.05229)",
    ),
    "small-training": Kind(
        0.39,
        0.20,
        "measured 0.27 to 0.40 (DenseNet on P40), 0.30 and 0.39 (ViT tiny and small; all Dodge et al. 2022, "
        "arXiv:2206.05229)",
    ),
    "fine-tuning": Kind(
        0.43,
        0.20,
        "measured 0.43 (BERT, Dodge et al. 2022, arXiv:2206.05229), one job only: from the least of all "
        "trainings",
    ),
    "evaluation": Kind(
        0.30,
        0.12,
        "measured 0.30 (BLOOM-1b7 on A40, emissions files of the model's repository)",
    ),
}
