"""The cases of the memory contract, one file per family of memories; `tests.unit.memories.cases` gathers them."""
