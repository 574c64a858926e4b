"""Habits of models and data in the wild: each is examined with the right numbers, or refused in so many words."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import IGNORE, Batch
from mnemoscope.examination.subject.losses import NextTokenLoss
from tests.unit.examination.any_models import (
    OUTPUTS,
    TEST,
    TINY,
    WRAPS,
    Checkpointed,
    Classifier,
    Deaf,
    Dropping,
    Mean,
    Packed,
    Padded,
    Plain,
    Remembering,
    RememberingInAList,
    RememberingInPlace,
    Returning,
    Tied,
    Twice,
    Wrapped,
    batches,
    drawn,
    effects,
    examined,
)


@cache
def of_plain() -> dict[str, float]:
    """What the model without habits gives."""
    return effects(examined(drawn(Plain)))


def losses(model: nn.Module, data: list[Any], loss: Callable[..., Tensor] | None = None) -> Tensor:
    with torch.no_grad():
        return torch.cat([(loss or NextTokenLoss())(model, batch) for batch in data])


@contextmanager
def zeroed(module: nn.Module) -> Iterator[None]:
    handle = module.register_forward_hook(lambda module, args, output: torch.zeros_like(output))
    yield
    handle.remove()


def zero_by_hand(model: nn.Module, module: nn.Module, data: list[Any], loss: Any = None) -> float:
    before = losses(model, data, loss)
    with zeroed(module):
        return float((losses(model, data, loss) - before).mean())


def test_the_plain_model_is_not_trivial():
    found = of_plain()
    assert {"zero", "mean", "optimal_constant", "resample", "window 1", "window 2", "window 4"} <= found.keys()
    assert min(abs(value) for value in found.values()) > 1e-6
    model = drawn(Plain)
    assert found["zero"] == pytest.approx(zero_by_hand(model, model.memory, batches()[TEST]))


@pytest.mark.parametrize("selector", OUTPUTS)
def test_the_read_may_be_any_tensor_of_what_a_module_returns(selector: str):
    memory, take = OUTPUTS[selector]
    examination = examined(drawn(lambda: Returning(memory, take)), sites=[selector])
    assert effects(examination) == pytest.approx(of_plain())
    assert examination.sites[0].name == selector.replace("mem*", "memory")
    assert examination.replay.startswith("from a record")


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("memory", r"memory must produce .* of shape \(\).*path::name"),
        ("memory::red", r"a tensor as 'red', got dict\(Tensor, Tensor\); name one .*::size \(\), ::read \(8, 12, 8\)"),
        ("memory.project::0", r"a tensor as '0', got Tensor; choose a submodule"),
    ],
)
def test_a_part_that_cannot_be_meant_is_refused_with_those_that_can(selector: str, message: str):
    memory, take = OUTPUTS["memory::read"]
    with pytest.raises(ValueError, match=message):
        examined(drawn(lambda: Returning(memory, take)), sites=[selector])


@pytest.mark.parametrize("wrap", WRAPS)
def test_logits_may_come_in_a_container(wrap: str):
    assert effects(examined(drawn(lambda: Wrapped(WRAPS[wrap])))) == pytest.approx(of_plain())


def test_padding_changes_no_effect():
    short = [{"input_ids": batch.inputs[:, :9]} for batch in batches()]
    padding = torch.tensor([[7, 3, 5]]).expand(8, 3)
    mask = torch.cat([torch.ones(8, 9, dtype=torch.int64), torch.zeros(8, 3, dtype=torch.int64)], dim=1)
    padded = [{"input_ids": torch.cat([b["input_ids"], padding], dim=1), "attention_mask": mask} for b in short]
    expected, found = (examined(drawn(Padded), data) for data in (short, padded))
    assert found.base_loss.value == pytest.approx(expected.base_loss.value)
    alike = effects(expected).keys() - {"random_directions"}  # as many as the reads, padding included, have
    assert {name: effects(found)[name] for name in alike} == pytest.approx({n: effects(expected)[n] for n in alike})


def packed(batch: Batch) -> dict[str, Tensor]:
    """Two documents in a row; what follows the first is not predicted from it."""
    tokens = batch.inputs
    document = (torch.arange(12) >= 5).long().expand(8, 12)
    labels = tokens.clone()
    labels[:, 5] = IGNORE
    return {"input_ids": tokens, "labels": labels, "document": document}


def test_packed_documents_are_scored_within_themselves():
    model, data = drawn(Packed), [packed(batch) for batch in batches()]
    examination = examined(model, data)

    def apart(batch: dict[str, Tensor]) -> Tensor:
        """Each document in a batch of its own."""
        nats = []
        for part in (slice(0, 5), slice(5, 12)):
            tokens = batch["input_ids"][:, part]
            logits = model(tokens, torch.zeros_like(tokens)).logits[:, :-1]
            nats.append(F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none"))
        return torch.cat(nats, dim=1).mean(1)

    with torch.no_grad():
        base = torch.cat([apart(batch) for batch in data[TEST]])
        with zeroed(model.memory):
            without = torch.cat([apart(batch) for batch in data[TEST]])
    assert examination.base_loss.value == pytest.approx(float(base.mean()), rel=1e-6)
    assert effects(examination)["zero"] == pytest.approx(float((without - base).mean()), abs=1e-6)


def regression(model: nn.Module, batch: Batch) -> Tensor:
    return (model(batch.inputs)[:, 0] - batch.inputs.double().mean(1)).square()


def classification(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch.inputs), batch.targets[:, -1], reduction="none")


@pytest.mark.parametrize("loss", [regression, classification])
def test_one_answer_for_a_sequence(loss: Callable[[nn.Module, Batch], Tensor]):
    model = drawn(Classifier)
    examination = examined(model, loss=loss)
    by_hand = zero_by_hand(model, model.memory, batches()[TEST], loss)
    assert effects(examination)["zero"] == pytest.approx(by_hand)
    assert examination.sites[0].horizon == []


@pytest.mark.parametrize("build", [Twice, Tied])
def test_a_module_that_is_called_twice_is_replaced_in_both_calls(build: type[Plain]):
    model = drawn(build)
    by_hand = zero_by_hand(model, model.memory, batches()[TEST])
    assert effects(examined(model))["zero"] == pytest.approx(by_hand)


def test_one_module_under_two_names_is_one_site():
    model = drawn(Tied)
    both, other = examined(model, sites=["memory", "again"]), examined(model, sites=["again"])
    assert [site.name for site in both.sites] == [site.name for site in other.sites] == ["memory"]
    assert effects(both) == effects(other)
    assert examined(model, sites=["memory"], routes=["again"]).routes == []


@pytest.mark.parametrize(
    ("memory", "name"),
    [(Remembering, "state"), (RememberingInPlace, "kept"), (RememberingInAList, "kept")],
)
def test_state_in_an_attribute_is_put_back_before_every_pass(memory: type[Mean], name: str):
    model = drawn(lambda: Plain(memory))
    with torch.no_grad():
        model(batches(1)[0].inputs)  # a state of the user's own
    users = getattr(model.memory, name)
    users = list(users) if isinstance(users, list) else users.clone()

    def fresh(model: nn.Module, batch: Batch) -> Tensor:
        kept = list(users) if isinstance(users, list) else users.clone()
        setattr(model.memory, name, kept)
        return NextTokenLoss()(model, batch)

    examination = examined(model)
    torch.testing.assert_close(getattr(model.memory, name), users, rtol=0, atol=0)
    assert examination.base_loss.value == pytest.approx(float(losses(model, batches()[TEST], fresh).mean()))
    by_hand = zero_by_hand(model, model.memory, batches()[TEST], fresh)
    assert effects(examination)["zero"] == pytest.approx(by_hand)
    assert examination.sites[0].horizon == []
    told = " ".join(examination.warnings)
    assert f"memory.{name}: tensors kept from one forward to the next" in told
    assert f"its history cannot be cut: outputs depend on more than its input (it keeps memory.{name}" in told


def test_state_that_cannot_be_put_back_is_refused():
    seen: list[Tensor] = []

    class Hidden(Plain):
        def block(self, x: Tensor) -> Tensor:
            seen.append(x[:, -1:])
            return super().block(x + seen[max(0, len(seen) - 2)])

    with pytest.raises(ValueError, match=r"other losses when it runs again.*reset it in loss="):
        examined(drawn(Hidden))


def test_a_table_built_at_the_first_call_stays_with_its_flag():
    class Lazy(Mean):
        def __init__(self) -> None:
            super().__init__()
            self.ready = False

        def forward(self, x: Tensor) -> Tensor:
            if not self.ready:
                self.table, self.ready = torch.zeros(8, dtype=x.dtype), True
            return super().forward(x) + self.table

    model = drawn(lambda: Plain(Lazy))
    assert effects(examined(model)) == pytest.approx(of_plain())
    assert model.memory.ready is False
    assert not hasattr(model.memory, "table")


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing_changes_nothing(use_reentrant: bool):
    model = drawn(lambda: Checkpointed(use_reentrant)).train()
    assert effects(examined(model)) == pytest.approx(of_plain())
    ran = []
    model.memory.register_forward_hook(lambda module, args, output: ran.append(module))
    model(batches(1)[0].inputs).sum().backward()
    assert len(ran) == 2


def compiled_whole(model: Plain) -> nn.Module:
    return torch.compile(model, backend="eager")


def compiled_memory(model: Plain) -> nn.Module:
    model.memory = torch.compile(model.memory, backend="eager")
    return model


def compiled_in_place(model: Plain) -> nn.Module:
    model.memory.compile(backend="eager")
    return model


@pytest.mark.parametrize("compiled", [compiled_whole, compiled_memory, compiled_in_place])
def test_of_compiled_models_the_original_is_examined(compiled: Callable[[Plain], nn.Module]):
    model = compiled(drawn(Plain))
    before = dict(model.named_modules())
    examination = examined(model)
    assert effects(examination) == pytest.approx(of_plain())
    assert any("compiled; what is examined is the original" in warning for warning in examination.warnings)
    assert dict(model.named_modules()) == before
    assert torch.compiler.is_compiling() is False


def test_bfloat16_is_examined_as_it_runs():
    model = drawn(Plain, torch.bfloat16)
    examination = examined(model)
    by_hand = zero_by_hand(model, model.memory, batches()[TEST])
    assert effects(examination)["zero"] == pytest.approx(by_hand, rel=1e-5)
    assert effects(examination)["zero"] == pytest.approx(of_plain()["zero"], rel=0.1, abs=0.01)
    assert examination.sites[0].horizon_method == "unfolded"
    assert all(parameter.dtype == torch.bfloat16 for parameter in model.parameters())


def test_dropout_is_off_and_the_model_comes_back_in_training_mode():
    model = drawn(Dropping).train()
    assert effects(examined(model)) == pytest.approx(of_plain())
    assert all(module.training for module in model.modules())


def test_lora_is_part_of_its_module():
    model = get_peft_model(drawn(Plain), LoraConfig(r=2, target_modules=["memory.project"], init_lora_weights=False))
    path = "base_model.model.memory.project"
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    examination = examined(model, sites=[path])
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == before
    merged = examined(model.merge_and_unload(), sites=["memory.project"])
    assert effects(examination) == pytest.approx(effects(merged), rel=1e-6)
    assert examined(drawn(Plain), sites=["memory.project"]).base_loss.value != pytest.approx(merged.base_loss.value)


def test_a_path_that_a_wrapper_moved_is_found_again():
    model = get_peft_model(drawn(Plain), LoraConfig(r=2, target_modules=["memory.project"]))
    with pytest.raises(ValueError, match=r"'memory'; nearest: base_model\.model\.memory$"):
        examined(model)


def aligned(model: Plain) -> nn.Module:
    """As `device_map` does for modules on other devices."""
    add_hook_to_module(model.memory, AlignDevicesHook(execution_device="cpu", io_same_device=True))
    return model


def offloaded(model: Plain) -> nn.Module:
    """As `device_map` does for modules that fit on no device."""
    return cpu_offload(model, execution_device=torch.device("cpu"))


@pytest.mark.parametrize("mapped", [aligned, offloaded])
def test_models_with_a_device_map(mapped: Callable[[Plain], nn.Module]):
    model = mapped(drawn(Plain))
    before = {name: (p.device, p.requires_grad) for name, p in model.named_parameters()}
    forwards = {path: module.__dict__.get("forward") for path, module in model.named_modules()}
    assert effects(examined(model)) == pytest.approx(of_plain())
    assert {name: (p.device, p.requires_grad) for name, p in model.named_parameters()} == before
    assert {path: module.__dict__.get("forward") for path, module in model.named_modules()} == forwards


def test_a_model_that_ignores_its_input_is_untrained_or_demands_nothing():
    (site,) = examined(drawn(Deaf)).sites
    assert site.verdict == "untrained"

    def silent(model: nn.Module, batch: Batch) -> Tensor:
        return 0 * model(batch.inputs).mean((1, 2)) + batch.inputs.double().mean(1)

    (site,) = examined(drawn(Deaf), loss=silent).sites
    assert site.verdict == "not-demanded"


class Infinite(Mean):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).masked_fill(x > 1, torch.inf)


class Masked(Plain):
    def read(self, output: Tensor) -> Tensor:
        return output.nan_to_num(posinf=0.0)


def unscored() -> list[Batch]:
    return [Batch(inputs=batch.inputs, targets=torch.full_like(batch.targets, IGNORE)) for batch in batches()]


def broken(model: Plain) -> Plain:
    nn.init.constant_(model.out.bias, torch.nan)
    return model


def with_idle(model: Plain) -> Plain:
    model.idle = Mean()
    return model


@pytest.mark.parametrize(
    ("build", "change", "message"),
    [
        (lambda: Masked(Infinite), {}, r"memory produces values that are not finite; mend the model first"),
        (lambda: broken(Plain()), {}, r"the model's own loss is not finite on these data; mend the model or the data"),
        (lambda: with_idle(Plain()), {"sites": ["idle"]}, r"idle did not run on every batch; leave it out of sites="),
        (Plain, {"data": unscored()}, r"every sequence must have a scored position, sequence 0 of a batch has none"),
        (Plain, {"sites": ["embed"], "budget": TINY, "data": batches(6, size=1)}, r"at least 2 sequences"),
    ],
)
def test_what_cannot_be_examined_is_refused(build: Callable[[], Plain], change: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        examined(drawn(build), **change)
