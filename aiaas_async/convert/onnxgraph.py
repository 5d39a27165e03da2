"""A layer graph as an ONNX model, for the layers of image classifiers. Needs the package onnx."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from aiaas_async.errors import GraphError, InvalidError
from aiaas_async.nn.activations import Relu, Relu6, Softmax
from aiaas_async.nn.convolution import Conv2d, Convolution
from aiaas_async.nn.dense import Dense
from aiaas_async.nn.depthwise import DepthwiseConv2d
from aiaas_async.nn.folding import folded
from aiaas_async.nn.graph import Node
from aiaas_async.nn.layer import Array
from aiaas_async.nn.network import Network
from aiaas_async.nn.pooling import GlobalAvgPool
from aiaas_async.nn.processing import Argmax, Normalise
from aiaas_async.nn.structure import Add
from aiaas_async.nn.table import NAMES

_OPSET: Final = 17
_IR_VERSION: Final = 8  # what belongs to that opset


def onnx_model(network: Network, params: Mapping[str, Array]) -> bytes:
    """The network with batch norm folded, under the same names of inputs and outputs.

    Images stay [N, height, width, channels] outside and are NCHW within. Raises `GraphError`
    for a layer that has no ONNX form here.
    """
    try:
        import onnx  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InvalidError("writing ONNX needs the package onnx: pip install onnx") from error
    network, params = folded(network, params)
    model: bytes = _Model(onnx, params).of(network)
    return model


class _Model:
    def __init__(self, onnx: Any, params: Mapping[str, Array]) -> None:
        self._onnx, self._helper, self._params = onnx, onnx.helper, params
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def of(self, network: Network) -> bytes:
        inputs = [self._described(s.name, s.dtype, s.shape) for s in network.inputs]
        outputs = [self._described(s.name, s.dtype, s.shape) for s in network.outputs]
        images = {s.name for s in network.inputs if len(s.shape or ()) == 3}
        for name in sorted(images):
            self._put("Transpose", [name], f"{name}/planes", perm=[0, 3, 1, 2])
        for node in network.graph.nodes:
            sources = [f"{s}/planes" if s in images else s for s in node.inputs]
            self._add(node, sources)
        graph = self._helper.make_graph(self._nodes, "graph", inputs, outputs, self._constants)
        opsets = [self._helper.make_opsetid("", _OPSET)]
        made = self._helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        self._onnx.checker.check_model(made)
        model: bytes = made.SerializeToString()
        return model

    def _described(self, name: str, dtype: str | None, shape: tuple[int, ...] | None) -> Any:
        kind = self._helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self._helper.make_tensor_value_info(name, kind, ["N", *(shape or ())])

    def _put(self, op: str, inputs: list[str], output: str, **options: Any) -> str:
        self._nodes.append(self._helper.make_node(op, inputs, [output], **options))
        return output

    def _constant(self, name: str, value: ArrayLike) -> str:
        array = np.array(value, np.float32, order="C")
        self._constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def _add(self, node: Node, sources: list[str]) -> None:
        layer, name = node.layer, node.name
        if isinstance(layer, Convolution):
            self._convolve(node, layer, sources)
        elif isinstance(layer, Normalise):
            self._normalise(name, layer, sources[0])
        elif isinstance(layer, Dense):
            given = [self._constant(each, self._params[each]) for each in node.parameters]
            self._put("Gemm", [*sources, *given], name)
        elif isinstance(layer, Relu6):
            bounds = [self._constant(f"{name}/{b}", b) for b in (0, 6)]
            self._put("Clip", [*sources, *bounds], name)
        elif isinstance(layer, GlobalAvgPool):
            self._put("Flatten", [self._put("GlobalAveragePool", sources, f"{name}/kept")], name)
        elif isinstance(layer, Argmax) and layer.labels is None:
            self._put("ArgMax", sources, name, axis=-1, keepdims=0)
        elif isinstance(layer, Relu | Softmax | Add):
            op = {Relu: "Relu", Softmax: "Softmax", Add: "Add" if len(sources) == 2 else "Sum"}
            self._put(op[type(layer)], sources, name)
        else:
            raise GraphError(f"layer {name!r} ({NAMES[type(layer)]}) has no ONNX form here")

    def _convolve(self, node: Node, layer: Convolution, sources: list[str]) -> None:
        weight, *bias = node.parameters
        value = self._params[weight]
        if isinstance(layer, DepthwiseConv2d):
            moved, group = value.transpose(2, 0, 1)[:, None], value.shape[2]
        elif isinstance(layer, Conv2d):
            moved, group = value.transpose(3, 2, 0, 1), 1
        else:
            raise GraphError(f"layer {node.name!r}: an unknown kind of convolution")
        given = [self._constant(weight, moved)]
        given += [self._constant(each, self._params[each]) for each in bias]
        kinds = {"same": "SAME_UPPER", "valid": "VALID"}
        if isinstance(layer.padding, str):
            around: dict[str, Any] = {"auto_pad": kinds[layer.padding]}
        else:
            (top, bottom), (left, right) = layer.padding
            around = {"pads": [top, left, bottom, right]}
        options = {"strides": list(layer.stride), "group": group, **around}
        self._put("Conv", [*sources, *given], node.name, **options)

    def _normalise(self, name: str, layer: Normalise, source: str) -> None:
        by_channel = (1, -1, 1, 1)
        mean = self._constant(f"{name}/mean", np.reshape(layer.mean, by_channel))
        scale = self._constant(f"{name}/scale", 1 / np.reshape(layer.std, by_channel))
        number = self._put("Cast", [source], f"{name}/float", to=self._onnx.TensorProto.FLOAT)
        self._put("Mul", [self._put("Sub", [number, mean], f"{name}/centred"), scale], name)
