"""Settings of models as earlier versions called them, in the words of today."""

from typing import Any


def renamed_settings(settings: Any, whole: Any = None) -> Any:
    """Settings of a model, or of anything that holds one, under the names they have today.

    `rotary` of attention became `positions`: true is "rotary", false "none".

    Args:
        settings: parsed JSON; not changed.
        whole: the same settings with every default, where `settings` may lack the `kind` of a part.

    Returns:
        a copy.
    """
    whole = settings if whole is None else whole
    if isinstance(settings, list):
        beside = whole if isinstance(whole, list) and len(whole) == len(settings) else settings
        return [renamed_settings(one, other) for one, other in zip(settings, beside, strict=True)]
    if not isinstance(settings, dict):
        return settings
    beside = whole if isinstance(whole, dict) else settings
    renamed = {name: renamed_settings(value, beside.get(name, value)) for name, value in settings.items()}
    if beside.get("kind") == "attention" and isinstance(renamed.get("rotary"), bool):
        return {("positions" if name == "rotary" else name): _positions(name, value) for name, value in renamed.items()}
    return renamed


def _positions(name: str, value: Any) -> Any:
    return value if name != "rotary" else "rotary" if value else "none"
