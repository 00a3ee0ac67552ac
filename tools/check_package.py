"""Build the wheel and the source distribution, install each into an empty environment and use it outside the checkout.

    python tools/check_package.py           # about three minutes, most of it the installation of PyTorch
    python tools/check_package.py --demo    # and run `vitlr demo` to its end

Needs the package `build` and a package index. Exits with 1 at the first command that fails.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent

# Run in an empty directory, one after the other.
COMMANDS = (
    "--version",
    "inspect --json",
    "data list --scenario nicv2_391 --experience 3",
    "data render objects --frames 1 --quiet",
    "train --data.root objects --data.frames 1 --data.scenario nc --learner.epochs 1 --memory.capacity 50"
    " --out run --quiet",
    "report run --out report --no-images --quiet",
    "teach robot --label first objects/s1/o1 --quiet",
    "teach robot --label second objects/s1/o6 --quiet",
    "predict robot objects/s2/o1 --json",
)


def run(*command: object, cwd: Path) -> str:
    """Output of a command that must succeed, run without the checkout on the import path."""
    began = time.perf_counter()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["VITLR_CACHE"] = str(cwd / "cache")
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True)
    print(f"{time.perf_counter() - began:6.1f} s  {' '.join(map(str, command[-12:]))}", flush=True)
    if done.returncode:
        sys.exit(f"exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def use(python: Path, empty: Path, commands: tuple[str, ...]) -> None:
    """Run ``vitlr`` commands as someone does who has only the package."""
    where = run(python, "-c", "import vitlr; print(vitlr.__file__)", cwd=empty).strip()
    if not Path(where).is_relative_to(python.parent.parent):
        sys.exit(f"vitlr was imported from {where}, not from the new environment")
    for command in commands:
        run(python.parent / "vitlr", *command.split(), cwd=empty)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo", action="store_true", help="also run `vitlr demo` to its end")
    parser.add_argument(
        "--out", type=Path, default=CHECKOUT / "dist", help="where the packages go (default dist/)"
    )
    options = parser.parse_args()
    out = options.out.resolve()
    with tempfile.TemporaryDirectory(prefix="vitlr-package-") as temporary:
        work = Path(temporary)
        run(sys.executable, "-m", "build", "--outdir", work / "dist", CHECKOUT, cwd=work)
        (wheel,), (sdist,) = (work / "dist").glob("*.whl"), (work / "dist").glob("*.tar.gz")
        venv.create(work / "venv", with_pip=True)
        python = work / "venv" / "bin" / "python"
        install = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        pinned = ("-c", CHECKOUT / "constraints.txt")

        print(f"\n{wheel.name}", flush=True)
        run(*install, *pinned, "torch==2.13.0", wheel, cwd=work)
        (work / "wheel").mkdir()
        use(python, work / "wheel", COMMANDS)
        if options.demo:
            run(work / "venv" / "bin" / "vitlr", "demo", "--quiet", cwd=work / "wheel")

        print(f"\n{sdist.name}", flush=True)
        run(*install, "--force-reinstall", "--no-deps", sdist, cwd=work)
        (work / "sdist").mkdir()
        use(python, work / "sdist", COMMANDS[:3])

        out.mkdir(parents=True, exist_ok=True)
        for file in (wheel, sdist):
            (out / file.name).write_bytes(file.read_bytes())
            print(f"\n{out / file.name}: {file.stat().st_size / 2**20:.1f} MiB", end="")
    print()


if __name__ == "__main__":
    main()
