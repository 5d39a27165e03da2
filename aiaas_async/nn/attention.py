"""Multi-head self-attention (Vaswani et al. 2017, "Attention is all you need").

Each head looks from every position at all positions (causal: at those up to its own):

    Q, K, V = x Wq + bq, x Wk + bk, x Wv + bv     one product: the weights lie side by side
    P       = softmax(Q Kᵀ / sqrt(size))
    y       = concat(P V of each head) Wo + bo

Scores grow with the square of the length, so P is never there as a whole: a tile of queries is
worked on at a time, and the backward pass computes its tiles again (Dao et al. 2022,
"FlashAttention") instead of keeping them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from aiaas_async.errors import GraphError
from aiaas_async.nn.layer import (
    Array,
    Count,
    Gradients,
    Layer,
    Mode,
    Need,
    ParameterSpec,
    Shape,
    known,
    rank,
)

_TILE: Final = 1 << 20  # scores that are held at once: 4 MiB of float32


class Attention(Layer, frozen=True):
    """[time, channels] to the same shape; `head_size` is channels / heads where it is left out.

    Parameters, with width = heads * head_size: qkv_weight [channels, 3 * width], whose columns
    are all heads' queries, then keys, then values, as PyTorch stacks them; qkv_bias [3 * width];
    out_weight [width, channels]; out_bias [channels].
    """

    heads: Count
    head_size: Count | None = None
    causal: bool = False
    qkv_bias: bool = True
    out_bias: bool = True

    def infer(self, shapes: Sequence[Shape]) -> Shape:
        rank(shapes[0], 2, "[time, channels]")
        channels = known(shapes[0][1], "the number of channels")
        if self.head_size is None and channels % self.heads:
            raise GraphError(
                f"{channels} channels are no multiple of {self.heads} heads; give head_size"
            )
        return shapes[0]

    def size(self, channels: int) -> int:
        """Numbers that one head has for one position."""
        return self.head_size or channels // self.heads

    def parameters(self, shapes: Sequence[Shape]) -> dict[str, ParameterSpec]:
        channels = shapes[0][1]
        width = self.heads * self.size(channels)
        inward, outward = (channels, width), (width, channels)
        found = {"qkv_weight": ParameterSpec((channels, 3 * width), "weight", inward)}
        if self.qkv_bias:
            found["qkv_bias"] = ParameterSpec((3 * width,))
        found["out_weight"] = ParameterSpec(outward, "weight", outward)
        if self.out_bias:
            found["out_bias"] = ParameterSpec((channels,))
        return found

    def forward(self, xs: Sequence[Array], ps: Sequence[Array], mode: Mode) -> tuple[Array, Any]:
        x, (qkv_weight, qkv_bias, out_weight, out_bias) = xs[0], self._named(ps)
        projected = x @ qkv_weight
        if qkv_bias is not None:
            projected += qkv_bias
        heads = _Heads.of(projected, self.heads, self.causal)
        mixed = np.empty((*x.shape[:2], out_weight.shape[0]), projected.dtype)
        heads.mix(_by_head(mixed, self.heads))
        y = mixed @ out_weight
        if out_bias is not None:
            y += out_bias
        return y, (x, heads, mixed)

    def backward(self, dy: Array, saved: Any, ps: Sequence[Array], need: Need) -> Gradients:
        (x, heads, mixed), (qkv_weight, qkv_bias, out_weight, out_bias) = saved, self._named(ps)
        dprojected = heads.slopes(mixed, dy @ out_weight.T)
        dx = dprojected @ qkv_weight.T if need.inputs else None
        if not need.parameters:
            return [dx], []
        grads = [_product(x, dprojected)]
        if qkv_bias is not None:
            grads.append(self._bias_slope(dprojected))
        grads.append(_product(mixed, dy))
        if out_bias is not None:
            grads.append(dy.sum(axis=(0, 1)))
        return [dx], grads

    def _bias_slope(self, dprojected: Array) -> Array:
        """A key's bias moves all scores of a query alike, which softmax does not see: its gradient
        is zero, and the rounding left of it Adam would blow up to whole steps."""
        found: Array = dprojected.sum(axis=(0, 1))
        _, keys, _ = np.split(found, 3)
        keys.fill(0)
        return found

    def _named(self, ps: Sequence[Array]) -> tuple[Array, Array | None, Array, Array | None]:
        """Both weights, each with its bias if there is one."""
        given = iter(ps)
        qkv_weight, qkv_bias = next(given), next(given) if self.qkv_bias else None
        return qkv_weight, qkv_bias, next(given), next(given) if self.out_bias else None


@dataclass(frozen=True, slots=True)
class _Heads:
    """Queries, keys and values [N, heads, time, size], and which keys a query looks at."""

    q: Array
    k: Array
    v: Array
    causal: bool

    @classmethod
    def of(cls, projected: Array, heads: int, causal: bool) -> _Heads:
        """From [N, time, 3 * width]; views of it."""
        q, k, v = (_by_head(part, heads) for part in np.split(projected, 3, axis=-1))
        return cls(q, k, v, causal)

    def mix(self, out: Array) -> None:
        """The values as each query weighs them, in `out` [N, heads, time, size]."""
        for rows, seen in self._tiles():
            np.matmul(self._weights(rows, seen), self.v[:, :, seen], out=out[:, :, rows])

    def slopes(self, mixed: Array, dmixed: Array) -> Array:
        """The gradient of what `of` was given, from that of `mix`'s result `mixed`.

        With dP = dO Vᵀ, the softmax gives dS = P (dP - rowsum(dP P)), and rowsum(dP P) is
        rowsum(dO O).
        """
        count, heads, time, size = self.q.shape
        found = np.zeros((count, time, 3 * heads * size), dmixed.dtype)
        dq, dk, dv = (_by_head(part, heads) for part in np.split(found, 3, axis=-1))
        dout = _by_head(dmixed, heads)
        along = (dout * _by_head(mixed, heads)).sum(axis=-1, keepdims=True)
        scale = 1 / math.sqrt(size)
        for rows, seen in self._tiles():
            weights, slope = self._weights(rows, seen), dout[:, :, rows]
            dv[:, :, seen] += weights.swapaxes(2, 3) @ slope
            dscores = slope @ self.v[:, :, seen].swapaxes(2, 3)
            dscores -= along[:, :, rows]
            dscores *= weights
            dscores *= scale
            dq[:, :, rows] = dscores @ self.k[:, :, seen]
            dk[:, :, seen] += dscores.swapaxes(2, 3) @ self.q[:, :, rows]
        return found

    def _tiles(self) -> Iterator[tuple[slice, slice]]:
        """Queries to work on together, and the keys that one of them looks at."""
        count, heads, time, _ = self.q.shape
        height = max(1, _TILE // max(1, count * heads * time))
        for start in range(0, time, height):
            stop = min(time, start + height)
            yield slice(start, stop), slice(0, stop if self.causal else time)

    def _weights(self, rows: slice, seen: slice) -> Array:
        """P of a tile."""
        scores: Array = self.q[:, :, rows] @ self.k[:, :, seen].swapaxes(2, 3)
        scores *= 1 / math.sqrt(self.q.shape[-1])
        if self.causal:
            ahead = np.arange(rows.start, rows.stop)[:, None] < np.arange(seen.stop)
            np.copyto(scores, -np.inf, where=ahead)
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        return scores


def _by_head(x: Array, heads: int) -> Array:
    """[N, time, heads * size] as [N, heads, time, size], without a copy."""
    return x.reshape(*x.shape[:2], heads, x.shape[2] // heads).swapaxes(1, 2)


def _product(x: Array, dy: Array) -> Array:
    """The gradient of a weight that takes each position of `x` to one of `dy`."""
    found: Array = x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])
    return found
