"""``vitlr train``, ``inspect`` and ``bench``: commands that take a run's configuration."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitlr.commands.console import Bar, Bars, notes, say
from vitlr.data.names import counted, expanded
from vitlr.errors import ConfigError

if TYPE_CHECKING:  # PyTorch takes seconds that `vitlr train --resume nowhere` need not wait for
    from jsonargparse import Namespace

    from vitlr.runs.settings import RunConfig
    from vitlr.runs.train import Materials, Result

__all__ = ["bench", "inspect", "train"]

_TRAIN = """Learn a stream experience by experience and write a run directory: config.yaml, metrics.jsonl,
TensorBoard events, summary.json, predictions.json and, if the method is a linear classifier on the network's
features, as latent_replay and slda with memory.tokens all are, model/, which transformers opens.

example: vitlr train --data.dataset core50 --data.root ~/core50_128x128 --backbone.name B_32_imagenet1k
                     --backbone.image_size 128 --backbone.cut 11 --memory.capacity 1500 --out runs/first"""
_TRAIN_FLAGS: dict[str, dict[str, Any]] = {
    "--resume": {"metavar": "RUN", "help": "continue a run from its last checkpoint"},
    "--overwrite": {"action": "store_true", "help": "remove an existing run directory first"},
    "--orders --runs": {
        "metavar": "0-9",
        "help": "several orders of the stream, one after the other, with one summary, as vitlr compare makes it;"
        " started again, it continues",
    },
    "--seeds": {"metavar": "0,1,2", "help": "the same with several seeds"},
}

_INSPECT = """Show the network as it will be trained: blocks, cut, frozen and trained parameters, tokens and bytes of
a latent, bytes of the memory, GFLOP of trunk and head. No data is needed; images of a folder or list that is given
are counted by class.

example: vitlr inspect --backbone.name B_32_imagenet1k --backbone.image_size 128 --backbone.cut 11"""

_BENCH = """Time the learning of one experience on the chosen setting, part by part, and images a second.

example: vitlr bench --backbone.name random:B_32 --backbone.image_size 128 --memory.capacity 1500"""
_BENCH_FLAGS: dict[str, dict[str, Any]] = {
    "--images": {"type": int, "default": 300, "help": "images in the experience"},
    "--repeats": {"type": int, "default": 3, "help": "measured repeats, of which the median is shown"},
    "--no-advice": {
        "action": "store_true",
        "help": "do not measure other precisions, cuts, mini-batches and epochs",
    },
}


def _read(
    arguments: Sequence[str], prog: str, description: str, flags: dict[str, dict[str, Any]]
) -> tuple[RunConfig, Namespace]:
    """The run's configuration, and the values of the command's own flags."""
    from vitlr.runs.settings import make_parser, read_arguments

    parser = make_parser(prog, description)
    flags = {
        **flags,
        "--quiet": {"action": "store_true", "help": "no progress"},
        "--json": {"action": "store_true", "help": "print the result as JSON"},
    }
    for name, options in flags.items():
        parser.add_argument(*name.split(), **options)
    return read_arguments(parser, arguments)


def train(arguments: Sequence[str]) -> int:
    config, options = _read(arguments, "vitlr train", _TRAIN, _TRAIN_FLAGS)
    from vitlr.runs.settings import RunConfig
    from vitlr.runs.train import check_run_dir, read_config

    repeated = options.orders is not None or options.seeds is not None
    if options.resume is not None:
        if config != RunConfig() or options.overwrite or repeated:
            raise ConfigError("--resume takes its settings from the run; give no other setting with it")
        config = read_config(expanded(options.resume))
    if repeated:
        if options.overwrite:
            raise ConfigError(
                "--orders and --seeds continue what is there; to start afresh, remove the directory and leave"
                " out --overwrite"
            )
        return _repeat(config, options)
    check_run_dir(config.run_dir, resume=options.resume is not None, overwrite=options.overwrite)
    result = _run(config, options)
    summary = result.summary
    if not options.quiet:
        notes((summary["cache"] or {}).get("notes", []))
        notes(summary["image_notes"])
        notes(summary.get("warnings", []))
        if skipped := summary["skipped_images"]:
            notes([f"{counted(skipped, 'image')} could not be read and {_was(skipped)} left out"])
    if options.json:
        print(json.dumps({"run_dir": str(result.run_dir), **summary}, indent=2))
    elif not options.quiet:
        say(f"{_result_line(summary)}\n{result.run_dir}")
    return 0


def _result_line(summary: dict[str, Any]) -> str:
    """The accuracy after the run, that of the classes seen beside it if others are in the test set."""
    seen = summary["seen_accuracy"]
    of_seen = "" if seen is None or seen == summary["test_accuracy"] else f" ({seen:.4f} on seen classes)"
    return (
        f"test accuracy {summary['test_accuracy']:.4f}{of_seen} after {counted(summary['experiences'], 'experience')}"
        f" (average along the stream {summary['average_test_accuracy']:.4f},"
        f" {summary['seconds_per_experience']:.2f} s an experience)"
    )


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def _run(config: RunConfig, options: Namespace) -> Result:
    """One run with its progress; an interrupt prints how to continue."""
    from vitlr.runs.interrupts import Interrupts
    from vitlr.runs.train import train as run

    quiet, position = options.quiet or options.json, [0]
    with ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts())
        materials = _prepare(config, quiet)
        bar = stack.enter_context(Bar(config.learner.method, quiet=quiet))
        materials.encode.progress = bar.within

        def started(_: Materials, start: int) -> None:
            position[0] = start
            bar.update(start, len(materials.stream))

        def recorded(record) -> None:
            position[0] += 1
            note = f"test accuracy {record.evaluation.test_accuracy:.3f}"
            bar.update(position[0], len(materials.stream), note)

        try:
            return run(
                config,
                materials,
                on_start=started,
                on_record=recorded,
                resume=options.resume is not None,
                overwrite=options.overwrite,
                interrupts=interrupts,
            )
        except KeyboardInterrupt:
            if (config.run_dir / "config.yaml").is_file():
                where = shlex.quote(str(config.run_dir))
                stopped = f"stopped after {position[0]} of {counted(len(materials.stream), 'experience')}"
                notes(["", f"{stopped}; continue with: vitlr train --resume {where}"])
            raise


def _repeat(config: RunConfig, options: Namespace) -> int:
    """One method on several orders and seeds: a comparison of one variant."""
    from vitlr.commands.compare import finish, numbers, run_plan
    from vitlr.configuration import flat
    from vitlr.runs.plan import Plan
    from vitlr.runs.settings import to_dict

    data, method = config.data, config.learner.method
    what = f"{data.dataset} {data.scenario}" if data.dataset in ("core50", "rendered") else data.dataset
    plan = Plan(
        title=f"{method.replace('_', ' ')}, {what}",
        base=flat(to_dict(config)),
        variants={method.replace("_", " "): {}},
        orders=(data.order,) if options.orders is None else numbers(options.orders, "--orders"),
        seeds=(config.seed,) if options.seeds is None else numbers(options.seeds, "--seeds"),
    )
    where = Path(config.out or Path("runs") / f"{method} {what}".replace(" ", "-"))
    rows = run_plan(plan, where, quiet=options.quiet or options.json)
    return finish(plan.title, rows, where, as_json=options.json)


def _prepare(config: RunConfig, quiet: bool) -> Materials:
    from vitlr.runs.materials import prepare

    with Bars(quiet=quiet) as bars:
        return prepare(
            config,
            on_render=lambda done, total: bars.update("rendering", done, total),
            on_stream=lambda stream: bars.found(stream),
            on_test=lambda done, total: bars.update("encoding the test set", done, total),
        )


def inspect(arguments: Sequence[str]) -> int:
    if arguments and not arguments[0].startswith("-"):
        raise ConfigError(_other_way(arguments[0]))
    config, options = _read(arguments, "vitlr inspect", _INSPECT, {})
    from vitlr.data import load_stream
    from vitlr.runs.inspect import inspect_network, inspection_text

    found = {}
    if config.data.dataset in ("folder", "experiences", "list"):
        stream = load_stream(config.data)
        found = {
            "data": {"facts": stream.facts, "notes": stream.notes, "left_out": stream.left_out.as_dict()}
        }
        if not (options.json or options.quiet):
            notes((*stream.facts, *stream.notes))
    report = inspect_network(config) | found
    print(json.dumps(report, indent=2)) if options.json else say(inspection_text(report))
    return 0


def _other_way(name: str) -> str:
    """What to give in place of a name, which inspect does not take."""
    path = expanded(name)
    if (path / "state.safetensors").is_file():
        return f"{name} is a saved classifier; vitlr classes {name} shows what it knows"
    if (path / "config.yaml").is_file():
        return f"{name} is a run; give vitlr inspect --config {name}/config.yaml"
    return f"inspect takes flags and no name, got {name}; give --backbone.name {name}"


def bench(arguments: Sequence[str]) -> int:
    config, options = _read(arguments, "vitlr bench", _BENCH, _BENCH_FLAGS)
    from vitlr.runs.bench import advise, bench_text, time_experience

    for name in ("images", "repeats"):
        if options[name] < 1:
            raise ConfigError(f"--{name} must be >= 1, got {options[name]}")
    images, quiet = options.images, options.quiet or options.json
    with Bar("measuring", quiet=quiet) as bar:
        report = time_experience(config, images=images, repeats=options.repeats, progress=bar.callback())
    if not options.no_advice:
        with Bar("other settings", quiet=quiet) as bar:
            report["alternatives"] = advise(config, report, images=images, progress=bar.callback())
    print(json.dumps(report, indent=2)) if options.json else say(bench_text(report))
    return 0
