"""Kill runs with SIGKILL and resume them: do they end bit for bit like a run that was never killed?

    python stress/kill.py --kills 100 --json kill.json
    python stress/kill.py --kills 100 --every-call      # and once at every single call that writes

Half of the kills come at a random moment, half in a random system call that writes in the run directory
(opening, writing, flushing, renaming, removing, making directories); a write is cut after half of its bytes. After
those, everything that was not flushed is cut off as well, as by a power cut. A third of the resumed runs
is killed again. A kill counts as identical if the run that it hit ends with the same metrics (without
seconds and peak memory), predictions, model files and final checkpoint, byte for byte, as a run that was not
killed.

In addition, a saved classifier and exported models are overwritten by processes that are killed in every call:
each time the old state or the new one must be there, complete.

At the end the counts are printed as the Markdown table of docs/reliability.md. The exit code is 1 if any promise was
broken.

Runs take about a second: a network of 3 blocks of width 16, 7 experiences of random pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from faults import calls_of, cut_unflushed, run_child, single_threaded, snapshot
from tiny import picture, save_core50, save_network

METHODS = {
    "latent replay, float32": ["--learner.method=latent_replay", "--memory.policy=spread"],
    "AR1* and replay, int8, balanced": [
        "--learner.method=latent_replay",
        "--learner.si_lambda=1",
        "--memory.policy=balanced",
        "--memory.codec=int8",
    ],
    "DER++, reservoir": ["--learner.method=der", "--memory.policy=reservoir"],
    "every second experience": ["--checkpoint_every=2", "--memory.policy=random"],
}


# -- runs -----------------------------------------------------------------------------------------------


class Runs:
    """Runs of one setting, each in its own directory, with the same relative paths."""

    def __init__(self, place: Path, flags: list[str]) -> None:
        self.place, self.flags = place, [*flags, "--out=run", "--quiet"]
        place.mkdir(parents=True)
        self.new_directory("whole")
        began = time.perf_counter()
        self.calls = calls_of(self.work, self.directory, self.log)
        self.seconds = time.perf_counter() - began
        self.expected = outcome(self.run)

    @property
    def directory(self) -> Path:
        return self.place / self.name

    @property
    def run(self) -> Path:
        return self.directory / "run"

    @property
    def log(self) -> Path:
        return self.place / f"{self.name}.log"

    def new_directory(self, name: str) -> None:
        self.name = name
        self.directory.mkdir()

    def work(self) -> int:
        """Start, or continue if there is a run to continue, as a user does."""
        from vitlr.cli import main

        os.chdir(self.directory)
        begun = (self.run / "config.yaml").is_file()
        return main(["train", "--resume", "run", "--quiet"] if begun else ["train", *self.flags])

    def kill(self, *, at: int | None = None, after: float | None = None) -> bool:
        """Kill one run; False if it finished first."""
        before = snapshot(self.directory)
        death = run_child(self.work, self.directory, at=at, after=after, output=self.log)
        if death.killed and at is not None:
            cut_unflushed(self.directory, before, death.flushed)
        if not death.killed and death.code:
            raise SystemExit(f"a resumed run failed: {self.log.read_text()}")
        return death.killed

    def finish(self) -> str | None:
        """Let it end; None if the end is the expected one, else what differs."""
        death = run_child(self.work, self.directory, output=self.log)
        if death.code:
            return f"ended with code {death.code}: {self.log.read_text()[-500:]}"
        found = outcome(self.run)
        different = [key for key in self.expected.keys() | found if self.expected.get(key) != found.get(key)]
        if not different:
            shutil.rmtree(self.directory)
            self.log.unlink()
            return None
        return f"differs in {', '.join(sorted(different))}: see {self.directory}"


def outcome(run: Path) -> dict[str, Any]:
    """Everything that a run leaves, without times and the process's memory."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds"]
    summary = json.loads((run / "summary.json").read_text())
    for key in ("seconds", "seconds_per_experience", "peak_memory_bytes"):
        del summary[key]
    files = [
        path
        for path in sorted(run.rglob("*"))
        if path.is_file()
        and path.name not in ("metrics.jsonl", "summary.json", ".lock")
        and "tfevents" not in path.name
    ]
    content = {str(path.relative_to(run)): path.read_bytes() for path in files}
    return {"metrics.jsonl": lines, "summary.json": summary, **content}


def random_kills(settings: list[Runs], kills: int, rng: np.random.Generator, say: Any) -> dict[str, Any]:
    """``kills`` kills; see the module's docstring."""
    done = identical = at_calls = trial = again = 0
    faults: list[str] = []
    while done < kills:
        runs = settings[trial % len(settings)]
        runs.new_directory(f"random-{trial}")
        trial += 1
        hits = 0
        while done + hits < kills:
            if rng.random() < 0.5:
                hit = runs.kill(at=int(rng.integers(len(runs.calls))))
                at_calls += hit
            else:
                hit = runs.kill(after=float(rng.uniform(0, runs.seconds)))
            hits += hit
            if not hit or rng.random() < 2 / 3:
                break
        again += max(0, hits - 1)
        fault = runs.finish()
        done += hits
        if fault is None:
            identical += hits
        else:
            faults.append(fault)
        say(f"{done} of {kills} kills, {identical} identical")
    return {"kills": done, "identical": identical, "in_a_call": at_calls, "again": again, "faults": faults}


def every_call(settings: list[Runs], say: Any) -> dict[str, Any]:
    """One kill in each call that writes of a whole run."""
    done = identical = 0
    faults: list[str] = []
    for number, runs in enumerate(settings):
        for at in range(len(runs.calls)):
            runs.new_directory(f"call-{at}")
            done += runs.kill(at=at)
            fault = runs.finish()
            identical += fault is None
            if fault is not None:
                faults.append(fault)
            if at % 50 == 0:
                say(f"setting {number + 1} of {len(settings)}: call {at} of {len(runs.calls)}")
    return {"kills": done, "identical": identical, "faults": faults}


# -- saved classifiers and exported models ---------------------------------------------------------------


def replaced(
    place: Path, old: Callable[[Path], Any], new: Callable[[Path], Any], read: Callable[[Path], Any], say: Any
) -> dict[str, Any]:
    """Kill ``new`` in each of its calls while it replaces what ``old`` wrote."""
    place.mkdir(parents=True)
    target = place / "target"
    old(target)
    wanted = [read(target)]
    calls = calls_of(lambda: new(target) and None, place, place.parent / "log")
    wanted.append(read(target))
    counts = {"kills": 0, "old": 0, "new": 0, "neither": 0}
    for at in range(len(calls)):
        old(target)
        before = snapshot(place)
        death = run_child(lambda: new(target) and None, place, at=at, output=place.parent / "log")
        cut_unflushed(place, before, death.flushed)
        counts["kills"] += death.killed
        found = read(target)
        counts[{0: "old", 1: "new"}[wanted.index(found)] if found in wanted else "neither"] += 1
    new(target)
    left = sorted(path.name for path in place.iterdir() if path.name != "target")
    if left:
        counts["neither"] += 1
        say(f"left behind: {left}")
    return counts


def classifiers(place: Path, network: Path, say: Any) -> dict[str, Any]:
    """Saved classifiers, models in transformers' format and ONNX files."""
    from vitlr import LatentReplayClassifier

    taught = []
    for seed in (0, 1):
        model = LatentReplayClassifier(network, memory=8, random_state=seed, epochs=1)
        for class_ in range(3):
            model.partial_fit([picture(class_, number) for number in range(4)], f"class {class_}")
        taught.append(model)
    images = [picture(class_, 50) for class_ in range(3)]

    def answers(directory: Path) -> Any:
        try:
            return LatentReplayClassifier.load(directory).predict_proba(images).tobytes()
        except ValueError as error:
            return str(error)

    def content(path: Path) -> Any:
        if path.is_file():
            return path.read_bytes()
        return {file.name: file.read_bytes() for file in sorted(path.iterdir())} if path.is_dir() else None

    before, after = taught
    found = {}
    found["classifier"] = replaced(
        place / "classifier",
        lambda target: (shutil.rmtree(target, ignore_errors=True), before.save(target)),
        after.save,
        answers,
        say,
    )
    other = LatentReplayClassifier(network, memory=8, blocks=2, random_state=2, epochs=1)
    other.partial_fit(images, ["a", "b", "c"])
    found["classifier on another network"] = replaced(
        place / "other",
        lambda target: (shutil.rmtree(target, ignore_errors=True), before.save(target)),
        other.save,
        answers,
        say,
    )
    found["exported model"] = replaced(
        place / "hf", before.export, lambda target: after.export(target), content, say
    )
    # The exporter takes seconds, so its output is written again in the same way.
    before.export(place / "one.onnx", "onnx")
    after.export(place / "two.onnx", "onnx")
    from vitlr.storage.files import write_atomically

    one, two = ((place / name).read_bytes() for name in ("one.onnx", "two.onnx"))
    found["ONNX file"] = replaced(
        place / "onnx",
        lambda target: write_atomically(target, [one]),
        lambda target: write_atomically(target, [two]),
        content,
        say,
    )
    return found


# -- the report -----------------------------------------------------------------------------------------


def table_lines(report: dict[str, Any]) -> list[str]:
    """The counts as the Markdown table of docs/reliability.md."""
    lines = ["| killed | kills | as if never killed |", "|---|---|---|"]
    where = (
        f"{report['in_a_call']:,} inside a system call, {report['again']:,} of them a second or later kill"
    )
    lines.append(f"| a run at a random moment, {where} | {report['kills']:,} | {report['identical']:,} |")
    if "every_call" in report:
        counts = report["every_call"]
        lines.append(f"| a run in each call that writes | {counts['kills']:,} | {counts['identical']:,} |")
    lines += [
        "",
        "| overwritten | kills | the old one whole | the new one whole | neither |",
        "|---|---|---|---|---|",
    ]
    for name, counts in report["replaced"].items():
        shown = " | ".join(f"{counts[key]:,}" for key in ("kills", "old", "new", "neither"))
        lines.append(f"| {name} | {shown} |")
    return lines


def faults_of(report: dict[str, Any]) -> list[str]:
    """The broken promises, one sentence each."""
    faults = [*report["faults"], *report.get("every_call", {}).get("faults", [])]
    faults += [
        f"{name}: neither the old state nor the new one, {counts['neither']} times"
        for name, counts in report["replaced"].items()
        if counts["neither"]
    ]
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100, help="of runs (default 100)")
    parser.add_argument("--every-call", action="store_true", help="also kill a run once in each of its calls")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts")
    options = parser.parse_args()
    single_threaded()
    import tensorboard.summary.writer.event_file_writer  # noqa: F401
    import transformers  # noqa: F401  imported once for all children

    import vitlr.cli
    import vitlr.runs.train  # noqa: F401

    def say(line: str) -> None:
        print(line, flush=True)

    began, rng = time.perf_counter(), np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory(prefix="vitlr-kill-") as folder:
        place = Path(folder)
        network = save_network(place / "network")
        tree = save_core50(place / "tree", (1, 2, 3), (1, 2, 6, 7))
        flags = [
            "--data.dataset=core50",
            f"--data.root={tree}",
            f"--backbone.name={network}",
            "--memory.capacity=8",
            "--learner.batch_size=8",
        ]
        settings = [
            Runs(place / f"setting-{number}", [*flags, *more]) for number, more in enumerate(METHODS.values())
        ]
        for name, runs in zip(METHODS, settings, strict=True):
            say(f"{name}: {runs.seconds:.2f} s, {len(runs.calls)} calls that write")
        report = random_kills(settings, options.kills, rng, say)
        if options.every_call:
            report["every_call"] = every_call(settings[:1], say)
        report["replaced"] = classifiers(place / "classifiers", network, say)
    report["seconds"] = time.perf_counter() - began
    say(f"\nkills {report['kills']}, identical {report['identical']}")
    faults = faults_of(report)
    for fault in faults:
        say(fault)
    say("\n" + "\n".join(table_lines(report)))
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    if faults:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
