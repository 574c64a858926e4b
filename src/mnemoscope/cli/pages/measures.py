"""The page of a measure: of an examination, of a training, or of a table of embeddings."""

import importlib
import inspect
from types import ModuleType

from mnemoscope.cli.pages.docstrings import sections_of, title_of, with_defaults
from mnemoscope.cli.pages.page import Code, Page, Part, Prose, Table
from mnemoscope.examination import geometry, measures
from mnemoscope.runs.measures import MEASURES
from mnemoscope.training import metrics
from mnemoscope.training.metrics import METRIC_NAMES

OF_EXAMINATION = {
    "addressing_entropy": ("addressing_entropy", "top_slot"),
    "attribution": ("attribution",),
    "contraction": ("loop_norm", "loop_lyapunov", "loop_certificate"),
    "contribution": ("contribution_ratio", "gate_below_0.01"),
    "effective_dimension": ("effective_dimension", "read_width"),
    "effective_state_size": ("state_share",),
    "gate_mean": ("gate_mean",),
    "gradient_share": ("gradient_share", "gradient_snr"),
    "mean_vector_share": ("mean_vector_share",),
    "slot_geometry": (
        "centred_rank",
        "mean_cosine",
        "slot_cosine",
        "slot_centred_cosine",
        "slot_rank",
        "slot_stable_rank",
        "stability_number",
        "stability_threshold",
    ),
    "state_dynamics": ("state_growth",),
    "stored_information": (),
    "utilisation": ("dead_slots", "gini", "max_violation"),
}
"""Files of `examination/measures`, and what each is called in a record."""

OF_GEOMETRY = ("smoothness", "spectrum", "distances", "paths", "dimension", "probe", "references", "knockout")
"""Files of `examination/geometry` that measure a table of embeddings."""

_TRAINING = "training_"
"""Before the name of a metric of training."""


def measure_names() -> list[str]:
    """Of the examination, of geometry, and of training."""
    return [*OF_EXAMINATION, *OF_GEOMETRY, *(_TRAINING + name for name in METRIC_NAMES)]


def measure_page(name: str) -> Page:
    """The page of one of `measure_names()`."""
    module, example, rows = _parts(name)
    docstring = module.__doc__ or ""
    sections = with_defaults(
        sections_of(docstring),
        {
            "What it does": title_of(docstring),
            "Source": "None is recorded.",
            "What differs from the source": "No difference is recorded.",
        },
    )
    sections["Example"] += example
    if rows:
        table = [("name in a record", "what it says"), *((row, MEASURES[row]) for row in rows)]
        sections["How to read it"].append(Table(table))
    return Page(kind="measure", name=name, title=title_of(docstring), parts=sections, module=module.__name__)


def _parts(name: str) -> tuple[ModuleType, list[Part], tuple[str, ...]]:
    """Where it stands, how to have it, and its names in a record."""
    if name in OF_EXAMINATION:
        rows = OF_EXAMINATION[name]
        return importlib.import_module(f"{measures.__name__}.{name}"), _of_examination(rows), rows
    if name in OF_GEOMETRY:
        module = importlib.import_module(f"{geometry.__name__}.{name}")
        command = "mnemoscope geometry embeddings.npy --edges edges.csv"
        return module, [Code("bash", command), *_functions(module)], ()
    metric = name.removeprefix(_TRAINING)
    module = importlib.import_module(f"{metrics.__name__}.{metric}")
    code = f'metrics = MetricsConfig(every=50, names=("{metric}",))'
    code = f"from mnemoscope.training.metrics import MetricsConfig\n\n{code}"
    return module, [Prose("`TrainConfig(metrics=metrics)` with"), Code("python", code), *_functions(module)], ()


def _of_examination(rows: tuple[str, ...]) -> list[Part]:
    if not rows:
        return [Code("bash", "mnemoscope examine runs/text"), Prose("where an examination has what it needs.")]
    code = (
        "examination = ms.examine(model, batches, sites=sites)\n"
        "for site in examination.sites:\n"
        f'    print(site.name, site.measures.get("{rows[0]}"))'
    )
    return [Code("python", f"import mnemoscope as ms\n\n{code}")]


def _functions(module: ModuleType) -> list[Part]:
    """Its public functions, to be called on tensors of one's own."""
    rows = [
        (name, (inspect.getdoc(function) or "").splitlines()[0])
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
    ]
    return [Table([("function", "what it gives"), *rows])] if rows else []
