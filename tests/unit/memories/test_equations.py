"""Each memory is what its docstring says: compared with loops over heads, tokens and slots, for one sequence of two.

The other sequence is there to be left alone: nothing of it may reach the first, nor the first's loss reach it.
"""

import torch

from tests.tolerances import FLOAT64, assert_close
from tests.unit.memories.cases import CASES, D_MODEL, auxiliary_loss, inputs, mixer_of, trained, variants

N_TOKENS = 35
"""More than one chunk of the fast forms."""

SEQUENCE = 1


@variants(*(name for name, case in CASES.items() if case.oracle is not None))
def test_outputs_and_gradients_are_those_of_the_equations(case: str):
    mixer, x, oracle = mixer_of(case), inputs(N_TOKENS).requires_grad_(), CASES[case].oracle
    assert oracle is not None
    fast = mixer(x)[0]
    slow = oracle(dict(mixer.named_parameters()), x[SEQUENCE])
    assert_close(fast[SEQUENCE], slow, FLOAT64)
    auxiliary, exact_auxiliary = auxiliary_loss(mixer, x), x.new_zeros(())
    if CASES[case].auxiliary is not None:
        exact_auxiliary = CASES[case].auxiliary(dict(mixer.named_parameters()), x)
    assert_close(auxiliary, exact_auxiliary, FLOAT64)
    weigh, wanted = inputs(N_TOKENS, seed=5)[SEQUENCE], [x, *trained(mixer).values()]
    theirs = torch.autograd.grad((slow * weigh).sum() + exact_auxiliary, wanted)
    for ours, exact in zip(
        torch.autograd.grad((fast[SEQUENCE] * weigh).sum() + auxiliary, wanted), theirs, strict=True
    ):
        assert_close(ours, exact, FLOAT64)


@torch.no_grad()
def test_a_single_vector_is_the_read_of_equal_slots():
    mixer, reads = mixer_of("bank"), []
    vector = mixer.single_vector().clone()
    mixer.slots.copy_(mixer.slots.mean(0).expand_as(mixer.slots))
    mixer.read.register_forward_hook(lambda _module, _args, output: reads.append(output))
    mixer(inputs(5))
    assert_close(reads[0], vector.expand(2, 5, D_MODEL), FLOAT64)
