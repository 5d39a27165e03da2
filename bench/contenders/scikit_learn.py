"""scikit-learn's MLPClassifier; it has no convolutions."""

from __future__ import annotations

import numpy as np
from sklearn.neural_network import MLPClassifier

from bench.contenders.data import BATCH, MOMENTUM, RATE, Images, Labels, Work, run


def mlp() -> Work:
    model = MLPClassifier(
        (256,),
        solver="sgd",
        alpha=0.0,
        batch_size=BATCH,
        learning_rate_init=RATE,
        momentum=MOMENTUM,
        nesterovs_momentum=False,
        random_state=0,
    )

    def train(images: Images, labels: Labels) -> float:
        model.partial_fit(images.reshape(len(images), -1), labels, classes=np.arange(10))
        return float(model.loss_)

    return train


if __name__ == "__main__":
    run("scikit-learn", {"mlp": mlp})
