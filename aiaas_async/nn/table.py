"""The table of layers: op name → class of options and passes."""

from __future__ import annotations

from typing import Final

from aiaas_async.nn.activations import Gelu, Relu, Relu6, Sigmoid, Silu, Softmax, Tanh
from aiaas_async.nn.attention import Attention
from aiaas_async.nn.convolution import Conv2d
from aiaas_async.nn.dense import Dense, Embedding
from aiaas_async.nn.depthwise import DepthwiseConv2d
from aiaas_async.nn.layer import Layer
from aiaas_async.nn.normalisation import BatchNorm, Dropout, LayerNorm
from aiaas_async.nn.pooling import AvgPool, GlobalAvgPool, MaxPool
from aiaas_async.nn.processing import Argmax, Normalise, Scale
from aiaas_async.nn.structure import Add, Concatenate, Flatten, Reshape, Transpose

OPS: Final[dict[str, type[Layer]]] = {
    "add": Add,
    "argmax": Argmax,
    "attention": Attention,
    "avg_pool": AvgPool,
    "batch_norm": BatchNorm,
    "concatenate": Concatenate,
    "conv2d": Conv2d,
    "dense": Dense,
    "depthwise_conv2d": DepthwiseConv2d,
    "dropout": Dropout,
    "embedding": Embedding,
    "flatten": Flatten,
    "gelu": Gelu,
    "global_avg_pool": GlobalAvgPool,
    "layer_norm": LayerNorm,
    "max_pool": MaxPool,
    "normalise": Normalise,
    "relu": Relu,
    "relu6": Relu6,
    "reshape": Reshape,
    "scale": Scale,
    "sigmoid": Sigmoid,
    "silu": Silu,
    "softmax": Softmax,
    "tanh": Tanh,
    "transpose": Transpose,
}
NAMES: Final[dict[type[Layer], str]] = {cls: name for name, cls in OPS.items()}
