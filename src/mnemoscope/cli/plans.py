"""What a dry run prints."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnemoscope.examination.planning import Plan, Planned


def print_plan(title: str, plan: "Plan", max_minutes: float | None) -> None:
    """Sites, interventions, minutes and memory, aligned."""
    print(f"{title}: {plan.subject}, local window {plan.local_window} tokens; nothing has been examined yet\n")
    width = max(len("site"), *(len(row.name) for row in plan.rows))
    print(f"  {'site':<{width}}  {'role':<8}  {'history':<8}  interventions")
    for row in plan.rows:
        history = row.horizon if row.horizon != "none" else "-"
        print(f"  {row.name:<{width}}  {row.role:<8}  {history:<8}  {_interventions(row)}")
    print(
        f"\n  {plan.n_fits} constants to fit on {plan.n_calibration} batches, about {_minutes(plan.fit_minutes)}"
        f"\n  {plan.n_conditions} interventions on {plan.n_test} test batches at most, about "
        f"{_minutes(plan.test_minutes)}"
        f"{_states(plan)}"
        f"\n  together about {_minutes(plan.minutes)}{_limit(plan.minutes, max_minutes)}"
        f"\n  memory: {_bytes(plan.model_bytes)} model, {_copy(plan)}, "
        f"{_bytes(plan.cache_bytes)} recorded activations, "
        f"{_bytes(plan.pass_bytes)} for a backward pass; together {_bytes(plan.n_bytes)}"
        f"\n  what precedes an intervention: {plan.replay}"
    )
    for warning in plan.warnings:
        print(f"  warning: {warning}")


def _interventions(row: "Planned") -> str:
    counted = ", ".join(f"{n} {kind}" for kind, n in row.conditions.items())
    return f"{sum(row.conditions.values())} ({counted})" if counted else "0"


def _copy(plan: "Plan") -> str:
    return f"no untrained copy ({plan.no_copy})" if plan.no_copy else f"{_bytes(plan.copy_bytes)} its untrained copy"


def _states(plan: "Plan") -> str:
    """The states that are taken out, or why none are."""
    if plan.states is None:
        return ""
    from mnemoscope.reporting.unmeasured import going_on

    return f"\n  states of a few sequences, about {_minutes(plan.states_minutes)}; self-test {going_on(plan.states)}"


def _minutes(minutes: float) -> str:
    return f"{60 * minutes:.0f} seconds" if minutes < 2 else f"{minutes:.0f} minutes"


def _limit(minutes: float, most: float | None) -> str:
    if most is None:
        return ""
    return f"; --max-minutes {most:g} {'suffices' if minutes <= most else 'will cut it short'}"


def _bytes(n: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.0f} {unit}"
        n /= 1024
    return f"{n:.1f} GiB"
