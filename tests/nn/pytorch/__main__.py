"""Record PyTorch's numbers for every layer, loss, optimiser and schedule in `numbers.npz`.

    python -m tests.nn.pytorch       (needs PyTorch, recorded with 2.13.0, and not the project)

Everything is computed in float64 and stored in this project's layouts: images NHWC, kernels
[kh, kw, in, out], dense weights [in, out]. The file is an npz without pickles: arrays named
"case/part", and "manifest", the cases as JSON in bytes.
"""

from __future__ import annotations

from pathlib import Path

import torch

from tests.nn.pytorch.layers import record_layers
from tests.nn.pytorch.recorder import save
from tests.nn.pytorch.training import record_training

if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    record_layers()
    record_training()
    save(Path(__file__).with_name("numbers.npz"))
