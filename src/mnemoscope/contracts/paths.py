"""Patterns of module paths, as people write them: `model.layers.*.mixer`."""

from fnmatch import fnmatchcase


def matches(path: str, pattern: str) -> bool:
    """Whether a dotted path fits a pattern, segment by segment, so that a star does not run over dots."""
    names, patterns = path.split("."), pattern.split(".")
    return len(names) == len(patterns) and all(map(fnmatchcase, names, patterns))
