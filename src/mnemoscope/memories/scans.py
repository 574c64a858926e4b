"""The scan that memories with a diagonal decay share."""

from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.ops.diagonal_decay import CHUNK_TOKENS, Writes, diagonal_decay_chunked


class DiagonalScan(nn.Module):
    """The reads of all tokens; a module of its own, so that a replay can answer it from the record.

    Args:
        before_write: read what the tokens before the present one left.
        chunk_tokens: tokens a chunk; for speed alone.
    """

    def __init__(self, *, before_write: bool = False, chunk_tokens: int = CHUNK_TOKENS) -> None:
        super().__init__()
        self.before_write, self.chunk_tokens = before_write, chunk_tokens

    def forward(
        self, q: Float[Tensor, "b t h k"], writes: Writes, state: Float[Tensor, "b h k v"]
    ) -> tuple[Float[Tensor, "b t h v"], Float[Tensor, "b h k v"]]:
        """Chunked form."""
        return diagonal_decay_chunked(q, writes, state, before_write=self.before_write, chunk_tokens=self.chunk_tokens)
