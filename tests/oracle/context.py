"""Memory as a context, as float64 loops over segments, tokens and heads; the memory is a bare gated delta rule.

Source: Behrouz, Zhong, Mirrokni 2024, "Titans" (arXiv 2501.00663), section 4.1, in the causal reading.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from tests.oracle.rotary import rotate

EPSILON = 1e-6


def memory(weights: Mapping[str, Tensor], x: Tensor, *, segment_tokens: int, n_heads: int, memory_heads: int) -> Tensor:
    """One sequence x (t d)."""
    inner = {name.removeprefix("memory."): weight for name, weight in weights.items() if name.startswith("memory.")}
    width = x.shape[1] // memory_heads
    states = [torch.zeros(width, width, dtype=torch.float64) for _ in range(memory_heads)]
    outputs = []
    for start in range(0, x.shape[0], segment_tokens):
        segment = x[start : start + segment_tokens]
        recalled = torch.stack([_recall(inner, token, states) for token in segment])
        for y in _attended(weights, segment, recalled, n_heads):
            gate, states = _write(inner, y, states)
            left = _rms(y) * weights["attended_norm.weight"]
            right = (_rms(gate) * weights["memory_norm.weight"]).sigmoid()
            outputs.append(left * right)
    return torch.stack(outputs)


def _query_key_value(inner: Mapping[str, Tensor], token: Tensor, head: int, width: int) -> tuple[Tensor, ...]:
    d = inner["qkv.weight"].shape[0] // 3
    projected = inner["qkv.weight"] @ token
    parts = [projected[i * d + head * width : i * d + (head + 1) * width] for i in range(3)]
    q, k, v = (part * part.sigmoid() for part in parts)
    return q / q.norm() / width**0.5, k / k.norm(), v


def _recall(inner: Mapping[str, Tensor], token: Tensor, states: list[Tensor]) -> Tensor:
    reads = []
    for head, s in enumerate(states):
        q, _, _ = _query_key_value(inner, token, head, s.shape[0])
        reads.append(s.T @ q)
    return inner["out.weight"] @ torch.cat(reads)


def _write(inner: Mapping[str, Tensor], token: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    new = []
    for head, s in enumerate(states):
        _, k, v = _query_key_value(inner, token, head, s.shape[0])
        strength = (inner["write_gate.weight"][head] @ token).sigmoid()
        rate = (1 + (inner["retention_gate.weight"][head] @ token + inner["retention_gate.bias"][head]).exp()).log()
        retention = (-inner["log_rate"][head].exp() * rate).exp()
        kept = retention * (s - strength * torch.outer(k, k @ s))
        new.append(kept + strength * torch.outer(k, v))
    return _recall(inner, token, new), new


def _attended(weights: Mapping[str, Tensor], segment: Tensor, recalled: Tensor, n_heads: int) -> list[Tensor]:
    width, outputs = segment.shape[1] // n_heads, []
    for t in range(segment.shape[0]):
        reads = []
        for head in range(n_heads):
            # Keys and values of a head lie side by side.
            own = slice(2 * head * width, 2 * (head + 1) * width)
            q = rotate((segment @ weights["query.weight"].T)[:, head * width : (head + 1) * width], 0)[t]
            keys, values = [], []
            for rows, turned in ((weights["persistent"], False), (recalled, True), (segment, True)):
                k, v = (rows @ weights["key_value.weight"].T)[:, own].chunk(2, dim=1)
                visible = slice(0, t + 1) if turned else slice(None)
                keys += list((rotate(k, 0) if turned else k)[visible])
                values += list(v[visible])
            scores = torch.stack([(q @ key / width**0.5).exp() for key in keys])
            reads.append(sum(score * value for score, value in zip(scores, values, strict=True)) / scores.sum())
        outputs.append(weights["out.weight"] @ torch.cat(reads))
    return outputs


def _rms(x: Tensor) -> Tensor:
    return x / ((x**2).mean() + EPSILON).sqrt()
