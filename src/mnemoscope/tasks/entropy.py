"""What is known of text by counting: the entropy of its tokens, alone and given the token before."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 2**22
_DENSE = 2**22


def unigram_entropy(tokens: NDArray[np.unsignedinteger]) -> float:
    """Entropy of the frequencies of `tokens`, in nats."""
    counts = np.zeros(int(tokens.max()) + 1, dtype=np.int64)
    for start in range(0, tokens.size, _AT_ONCE):
        counts += np.bincount(tokens[start : start + _AT_ONCE], minlength=counts.size)
    frequencies = counts[counts > 0] / tokens.size
    return max(0.0, -math.fsum(frequencies * np.log(frequencies)))


def bigram_entropy(tokens: NDArray[np.unsignedinteger], vocab_size: int) -> float:
    """Entropy of a token given the one before, in nats: of the pairs that there are, whatever their number.

    Args:
        tokens: at least two, in [0, vocab_size).
        vocab_size: above 2048, pairs are counted by sorting, in memory that grows with those there are.
    """
    if vocab_size**2 > _DENSE:
        return _sparse_bigram_entropy(tokens, vocab_size)
    counts = np.zeros(vocab_size**2, dtype=np.int64)
    for codes in _pairs(tokens, vocab_size):
        counts += np.bincount(codes, minlength=counts.size)
    pairs = counts.reshape(vocab_size, vocab_size)
    of_first = pairs.sum(1, keepdims=True)
    logs = np.log(pairs, where=pairs > 0, out=np.zeros(pairs.shape)) - np.log(np.maximum(of_first, 1))
    return max(0.0, -float((pairs * logs).sum()) / (tokens.size - 1))


def _sparse_bigram_entropy(tokens: NDArray[np.unsignedinteger], vocab_size: int) -> float:
    seen, counts = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    for codes in _pairs(tokens, vocab_size):
        more, n_more = np.unique(codes, return_counts=True)
        seen, place = np.unique(np.concatenate([seen, more]), return_inverse=True)
        counts = np.bincount(place, weights=np.concatenate([counts, n_more])).astype(np.int64)
    of_first = np.bincount(seen // vocab_size, weights=counts)[seen // vocab_size]
    return max(0.0, -float((counts * np.log(counts / of_first)).sum()) / (tokens.size - 1))


def _pairs(tokens: NDArray[np.unsignedinteger], vocab_size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, tokens.size - 1, _AT_ONCE):
        part = tokens[start : start + _AT_ONCE + 1].astype(np.int64)
        yield vocab_size * part[:-1] + part[1:]
