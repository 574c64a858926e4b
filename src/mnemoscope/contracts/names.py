"""Names that become folders, on every system."""

import re

_REFUSED = re.compile(r'[<>:"/\\|?*\x00-\x1f]|[. ]$|^$')
_DEVICES = re.compile(r"(con|prn|aux|nul|com[1-9]|lpt[1-9])(\..*)?", re.IGNORECASE)


def check_folder_name(what: str, name: str) -> None:
    """Refuse a name that cannot be a folder on Linux, macOS or Windows.

    Args:
        what: is named, for messages.
        name: of one folder, without those above it.

    Raises:
        ValueError: a character, an end or a word that one of them refuses.
    """
    refused = _REFUSED.search(name)
    if refused or _DEVICES.fullmatch(name):
        why = repr(refused[0]) if refused and refused[0] else "the name" if name else "no name at all"
        raise ValueError(
            f"{what}: {name!r} becomes a folder, and {why} is refused on Windows or elsewhere; use letters, digits, "
            "- _ + = ( ) and dots inside"
        )
