"""The contractive workspace as float64 loops, token by token; the gradient of its fixed point by a linear solve."""

from collections.abc import Mapping

import torch
from torch import Tensor

from tests.oracle import mamba
from tests.oracle.log_accumulation import raw_read


def bounded(weight: Tensor, rho: float) -> Tensor:
    """rho W / max(1, sigma_max(W)), sigma_max from the eigenvalues of W^T W."""
    largest = torch.linalg.eigvalsh(weight.T @ weight)[-1].sqrt()
    return rho * weight / largest if largest > 1 else rho * weight


def step(weight: Tensor, drive: Tensor, z: Tensor, step_size: float) -> Tensor:
    return (1 - step_size) * z + step_size * torch.tanh(weight @ z + drive)


def settled(weight: Tensor, drive: Tensor, step_size: float, n_steps: int, rule: str, tolerance: float) -> Tensor:
    """One token (d): from zero, until the rule or n_steps say stop."""
    z, average, calm = torch.zeros_like(drive), 0.0, 0
    for n in range(n_steps):
        moved = step(weight, drive, z, step_size)
        move, length = float((moved - z).detach().norm()), float(z.detach().norm())
        z = moved
        if rule == "residual" and move < tolerance * length:
            break
        if rule == "saturation":
            before, average = average, 0.9 * average + 0.1 * move if n else move
            calm = calm + 1 if n and abs(average - before) < tolerance * before else 0
            if calm == 2:
                break
    return z


def workspace(
    weights: Mapping[str, Tensor],
    x: Tensor,
    *,
    n_heads: int,
    window: int | None,
    rotary: bool,
    rho: float,
    step_size: float,
    n_iterations: int,
    rule: str,
    tolerance: float,
    gradient: str,
) -> Tensor:
    """A whole workspace for one sequence x (t d)."""
    p = raw_read(weights, x, n_heads, window, rotary)
    weight, rows = bounded(weights["weight"], rho), []
    for p_t in p:
        drive = weights["push.weight"] @ p_t + weights["push.bias"]
        z = settled(weight, drive, step_size, n_iterations - 1, rule, tolerance)
        if gradient == "unroll":
            rows.append(step(weight, drive, z, step_size))
            continue
        z = z.detach()
        last = step(weight, drive, z, step_size)
        if gradient == "implicit":
            slope = 1 - torch.tanh(weight @ z + drive).detach() ** 2
            identity = torch.eye(len(z), dtype=z.dtype)
            jacobian = (1 - step_size) * identity + step_size * slope.unsqueeze(1) * weight.detach()
            # The value is that of the last step; the change is solved for.
            last = last.detach() + torch.linalg.solve(identity - jacobian, last - last.detach())
        rows.append(last)
    return torch.stack(rows) @ weights["out.weight"].T


def under(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def expert_workspace(
    weights: Mapping[str, Tensor],
    x: Tensor,
    *,
    n_heads: int,
    update_every: int,
    rho: float,
    step_size: float,
    n_iterations: int,
    gradient: str,
    order: int,
) -> Tensor:
    """A whole workspace of experts for one sequence x (t d); of gradients, "unroll" and "one_live"."""
    looked = raw_read(weights, x, n_heads, None, True)
    scanned = mamba.memory(under("scan.", weights), x, rank=1, order=order)
    weight, z, rows = bounded(weights["weight"], rho), torch.zeros_like(x[0]), []
    for t in range(x.shape[0]):
        inner = weights["net_in.weight"] @ x[t] + weights["net_in.bias"]
        inner = inner * (1 + torch.erf(inner / 2**0.5)) / 2
        net = weights["net_out.weight"] @ inner + weights["net_out.bias"]
        wave = weights["wave.weight"] @ torch.sin(weights["frequency"] * t + weights["phase"])
        if (t + 1) % update_every == 0:
            p = torch.stack([looked[t], scanned[t], net, wave]).mean(0)
            drive = weights["push.weight"] @ p + weights["push.bias"]
            z = settled(weight, drive, step_size, n_iterations - 1, "fixed", 0.0)
            z = step(weight, drive, z if gradient == "unroll" else z.detach(), step_size)
        rows.append(weights["out.weight"] @ z)
    return torch.stack(rows)
