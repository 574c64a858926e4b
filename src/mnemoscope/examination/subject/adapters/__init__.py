"""Models of other libraries as subjects: which of their modules are memories and routes, and how to run them fairly.

May live here: what is known of a library's classes, by name. May import: contracts, and of the examination `calls`
alone; never the library itself.
"""

from mnemoscope.examination.subject.adapters.huggingface import (
    Adapted,
    Found,
    adapted,
    is_attention,
    mixer_of,
    reach_of,
)
from mnemoscope.examination.subject.adapters.rest import at_rest
from mnemoscope.examination.subject.adapters.table import MIXERS, Mixer

__all__ = ["MIXERS", "Adapted", "Found", "Mixer", "adapted", "at_rest", "is_attention", "mixer_of", "reach_of"]
