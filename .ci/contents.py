"""What wheel and sdist must hold, and must not; exit code 1 names what is wrong."""

import email
import sys
import tarfile
import zipfile
from pathlib import Path

NEEDED = ("mnemoscope/py.typed", "mnemoscope/__init__.py", "LICENSE")
FOREIGN = ("tests/", "results/", "benchmarks/", "runs/seed", ".venv/", "__pycache__")
SOURCE = Path("src/mnemoscope")


def main(folder: Path) -> int:
    """Check the one wheel and the one sdist of a folder."""
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as file:
        in_wheel = file.namelist()
        metadata = file.read(next(name for name in in_wheel if name.endswith(".dist-info/METADATA"))).decode()
    with tarfile.open(sdist) as file:
        in_sdist = [name.partition("/")[2] for name in file.getnames()]
    data = {
        str(path.relative_to("src")) for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in str(path)
    }
    problems = [f"{wheel.name}: lacks {name}" for name in sorted(data - set(in_wheel))]
    problems += [f"{sdist.name}: lacks src/{name}" for name in sorted(data) if f"src/{name}" not in in_sdist]
    for package, names in ((wheel, in_wheel), (sdist, in_sdist)):
        problems += [f"{package.name}: lacks {want}" for want in NEEDED if not any(n.endswith(want) for n in names)]
        tops = [name for name in names if name.startswith(FOREIGN) or "__pycache__" in name]
        problems += [f"{package.name}: must not hold {name}" for name in tops]
    fields = email.message_from_string(metadata)
    for name in ("Name", "Version", "Summary", "License-Expression", "Requires-Python"):
        if not fields[name]:
            problems.append(f"{wheel.name}: its metadata lack {name}")
    if fields["Description-Content-Type"] != "text/markdown" or "# Mnemoscope" not in metadata:
        problems.append(f"{wheel.name}: its metadata lack the README")
    if f"-{fields['Version']}" not in wheel.name or f"-{fields['Version']}" not in sdist.name:
        problems.append(f"versions differ: {wheel.name}, {sdist.name}, metadata {fields['Version']}")
    print("\n".join(problems) or f"{wheel.name} and {sdist.name}: {len(data)} files of the package, metadata complete")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
