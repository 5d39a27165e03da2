"""The digits are the UCI test set, unchanged."""

import numpy as np

from aiaas_async.data.digits import load_digits


def test_the_digits_equal_the_published_ones() -> None:
    from sklearn import datasets  # noqa: PLC0415 - 0.8 s

    images, labels = load_digits()
    published = datasets.load_digits()
    assert images.shape == (1797, 8, 8, 1)
    assert images.dtype == np.float32
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(images[..., 0], published.images)
    np.testing.assert_array_equal(labels, published.target)


def test_every_digit_is_about_as_frequent() -> None:
    assert np.bincount(load_digits()[1]).tolist() == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180,
    ]  # fmt: skip
