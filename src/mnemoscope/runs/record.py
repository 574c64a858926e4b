"""The base of everything that is written as JSON."""

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 2
"""Version of every file of a run directory; raised, with a step in `migrations`, when a record changes."""


class Record(BaseModel):
    """A frozen record; unknown fields and wrong types are refused on reading."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=True, ser_json_inf_nan="constants"
    )
