"""What a calibration of the verdict found: planted instances, what each must get and got, accuracy, and acceptance."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from mnemoscope.experiments.coverage import Coverage, SequentialCoverage
from mnemoscope.experiments.planted import KINDS, Kind
from mnemoscope.runs.record import Record

LEAST_ACCURACY = 0.97
LEAST_COVERAGE, MOST_COVERAGE = 0.93, 0.97
MOST_FAMILYWISE_ERROR = 0.07
LOAD_BEARING = ("load-bearing (sole)", "load-bearing (shared)", "load-bearing")
DECORATIVE = ("decorative", "decorative (scale)", "starved")


class Instance(Record):
    """One examined instance: what must come out and what came out, by what it is about."""

    kind: str
    seed: int
    expected: dict[str, str]
    got: dict[str, str]
    n_test: int
    cpu_seconds: float
    version: str

    @property
    def right(self) -> bool:
        """Whether everything came out as it must."""
        return self.got == self.expected

    @property
    def came_out(self) -> list[str]:
        """What its memories got, and with a name whatever else is wrong."""
        wrong = {what: got for what, got in self.got.items() if got != self.expected.get(what)}
        memories = [got for what, got in self.got.items() if what.startswith("memory ")]
        return memories + [f"{what}: {got}" for what, got in wrong.items() if not what.startswith("memory ")]

    @property
    def verdicts(self) -> list[tuple[str, str]]:
        """Expected and got, for all that gets a verdict."""
        return [
            (wanted, self.got.get(what, "nothing"))
            for what, wanted in self.expected.items()
            if not what.startswith("flag ")
        ]

    @property
    def confused(self) -> bool:
        """Whether load-bearing was called decorative, or the other way round."""
        sides = (LOAD_BEARING, DECORATIVE)
        return any(
            wanted in one and got in other for wanted, got in self.verdicts for one, other in (sides, sides[::-1])
        )


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What instances, intervals and looks say; `coverage` and `looks` are None where intervals were not examined."""

    instances: Sequence[Instance]
    coverage: Coverage | None
    seconds: float
    versions: dict[str, str]
    looks: SequentialCoverage | None = None

    def of(self, kind: str) -> list[Instance]:
        """All instances of a kind."""
        return [instance for instance in self.instances if instance.kind == kind]

    @property
    def kinds(self) -> list[Kind]:
        """Those of which there are instances."""
        return [kind for kind in KINDS.values() if self.of(kind.name)]

    @property
    def accuracy(self) -> float:
        """Mean over kinds of the share of instances that are right in everything."""
        right = [fmean(instance.right for instance in self.of(kind.name)) for kind in self.kinds]
        return fmean(right)

    @property
    def cpu_seconds(self) -> float:
        """Of all instances."""
        return sum(instance.cpu_seconds for instance in self.instances)

    @property
    def n_confused(self) -> int:
        """Instances in which load-bearing and decorative were taken for each other."""
        return sum(instance.confused for instance in self.instances)

    @property
    def confused_at_most(self) -> float | None:
        """Upper end of a 95 % interval of the rate of confusions, if none was seen in many (rule of three)."""
        return 3 / len(self.instances) if not self.n_confused and len(self.instances) >= 30 else None

    @property
    def confusion(self) -> Counter[tuple[str, str]]:
        """How often what was expected came out as what."""
        return Counter(pair for instance in self.instances for pair in instance.verdicts)

    @property
    def failures(self) -> list[str]:
        """What is below acceptance."""
        found = []
        if self.accuracy < LEAST_ACCURACY:
            found.append(f"macro accuracy {self.accuracy:.1%} is below {LEAST_ACCURACY:.0%}")
        if self.n_confused:
            found.append(f"{self.n_confused} instances confuse load-bearing and decorative")
        if self.coverage is not None and not LEAST_COVERAGE <= self.coverage.share <= MOST_COVERAGE:
            found.append(f"coverage {self.coverage.share:.1%} is outside {LEAST_COVERAGE:.0%} to {MOST_COVERAGE:.0%}")
        if self.looks is not None and self.looks.familywise_error > MOST_FAMILYWISE_ERROR:
            found.append(f"familywise error {self.looks.familywise_error:.1%} is above {MOST_FAMILYWISE_ERROR:.0%}")
        if self.looks is not None and self.looks.share < LEAST_COVERAGE:
            found.append(f"coverage {self.looks.share:.1%} where looks decide is below {LEAST_COVERAGE:.0%}")
        return found


def table(calibration: Calibration) -> list[tuple[str, str, str, str, str]]:
    """The confusion table, a row for each kind: name, what it is, what its memories must get, right, what they got."""
    rows = [("kind", "planted", "expected", "right", "got")]
    for kind in calibration.kinds:
        instances = calibration.of(kind.name)
        came_out = Counter(got for instance in instances for got in instance.came_out)
        got = ", ".join(f"{what} {n}" for what, n in came_out.most_common())
        right = sum(instance.right for instance in instances)
        rows.append((kind.name, kind.what, kind.summary, f"{right} / {len(instances)}", got))
    return rows


def summary(calibration: Calibration) -> list[str]:
    """The figures below the table, and what is below acceptance."""
    found = calibration
    at_most = "" if found.confused_at_most is None else f", so below {found.confused_at_most:.1%} at 95 % confidence"
    lines = [
        f"macro accuracy {found.accuracy:.1%} over {len(found.kinds)} kinds and {len(found.instances)} instances",
        f"load-bearing and decorative confused in {found.n_confused} of {len(found.instances)} instances{at_most}",
        "intervals were not examined, since not all kinds were" if found.coverage is None else str(found.coverage),
        *([] if found.looks is None else [str(found.looks)]),
        f"seeds 0 to {max(instance.seed for instance in found.instances)}; instrument {found.instances[0].version}",
        f"{found.cpu_seconds / len(found.instances):.1f} s of one core an instance, {found.seconds:.0f} s in this run",
        ", ".join(f"{name} {version}" for name, version in found.versions.items()),
    ]
    return [*lines, *(f"NOT ACCEPTED: {failure}" for failure in found.failures)]


def markdown(calibration: Calibration, title: str, command: str) -> str:
    """A page for `results/`."""
    head, *rows = ["| " + " | ".join(row) + " |" for row in table(calibration)]
    matrix = [f"| {expected} | {got} | {n} |" for (expected, got), n in sorted(calibration.confusion.items())]
    return "\n".join(
        [
            f"# {title}",
            "",
            f"`{command}`",
            "",
            "Models whose verdict is known by construction, weights set by hand, sizes, codes and label noise drawn at",
            "random. An instance is right if every verdict (of memories, of all of them together, of subsets of the",
            "data) and every flag is.",
            "",
            head,
            "|---|---|---|---|---|",
            *rows,
            "",
            *(f"- {line}" for line in summary(calibration)),
            "",
            "Every verdict that was given, of memories, groups and subsets:",
            "",
            "| expected | got | times |",
            "|---|---|---|",
            *matrix,
            "",
        ]
    )
