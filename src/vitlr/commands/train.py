"""``vitlr train``, ``inspect`` and ``bench``: commands that take a run's configuration."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from vitlr.commands.console import Bar, err
from vitlr.errors import ConfigError

__all__ = ["bench", "inspect", "train"]


class Flags:
    """Flags of our own, taken out before the configuration's are parsed."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.rest = list(arguments)

    def switch(self, name: str) -> bool:
        """Whether ``name`` was given."""
        found = name in self.rest
        self.rest = [argument for argument in self.rest if argument != name]
        return found

    def value(self, name: str) -> str | None:
        """The value of ``name VALUE`` or ``name=VALUE``, the last one given."""
        value, rest, waiting = None, [], False
        for argument in self.rest:
            if waiting:
                value, waiting = argument, False
            elif argument == name:
                waiting = True
            elif argument.startswith(name + "="):
                value = argument[len(name) + 1 :]
            else:
                rest.append(argument)
        if waiting:
            raise ConfigError(f"{name} needs a value; see --help")
        self.rest = rest
        return value


_OURS = """
--on-bad-image skip  leave out and count images that cannot be read (--data.on_bad_image)
--trunk int8        the frozen blocks in float32, bfloat16 or int8 (--backbone.precision)
--device cuda       cpu, cuda, cuda:NUMBER or auto (--backbone.device)
--params-cfg FILE   settings from the original research code's params.cfg; flags after it win
--quiet             no progress; --json prints the result as JSON"""

_TRAIN = f"""Learn a stream experience by experience and write a run directory: config.yaml, metrics.jsonl,
TensorBoard events, summary.json, predictions.json and model/, which transformers opens.

Flags besides the settings below:
--resume RUN        go on with a run from its last checkpoint
--overwrite         remove an existing run directory first
--runs 0-9          several published orders, one after the other, with one summary, as vitlr compare makes it;
                    started again, it goes on where it was
--seeds 0,1,2       the same with several seeds{_OURS}

example: vitlr train --data.dataset core50 --data.root ~/core50_128x128 --backbone.name B_32_imagenet1k
                     --backbone.image_size 128 --backbone.cut 11 --memory.capacity 1500 --out runs/first"""

_INSPECT = f"""Show the network as it will be trained: blocks, cut, frozen and trained parameters, tokens and bytes of
a latent, bytes of the memory, GFLOP of trunk and head. No data is needed.

Flags besides the settings below:{_OURS}

example: vitlr inspect --backbone.name B_32_imagenet1k --backbone.image_size 128 --backbone.cut 11"""

_BENCH = f"""Time the learning of one experience on the chosen setting, part by part, and images a second.

Flags besides the settings below:
--images N          images in the experience (default 300)
--repeats N         measured repeats, of which the median is shown (default 3)
--no-advice         do not measure other precisions, cuts, mini-batches and epochs{_OURS}

example: vitlr bench --backbone.name random:B_32 --backbone.image_size 128 --memory.capacity 1500"""


def _configuration(flags: Flags, prog: str, description: str):
    from vitlr.runs.params_cfg import read_params_cfg
    from vitlr.runs.settings import parse

    params, bad_images = flags.value("--params-cfg"), flags.value("--on-bad-image")
    arguments = flags.rest
    if bad_images is not None:
        arguments = [*arguments, f"--data.on_bad_image={bad_images}"]
    if params is not None:
        translated, notes = read_params_cfg(params)
        arguments = [*translated, *arguments]
        for note in notes:
            err().print(f"{params}: {note}", markup=False, soft_wrap=True)
    return parse(arguments, prog, description)


def train(arguments: Sequence[str]) -> int:
    flags = Flags(arguments)
    quiet, as_json, overwrite = flags.switch("--quiet"), flags.switch("--json"), flags.switch("--overwrite")
    resume = flags.value("--resume")
    repeats = {name: flags.value(f"--{name}") for name in ("runs", "seeds")}
    repeated = any(text is not None for text in repeats.values())
    if resume is not None and (flags.rest or overwrite or repeated):
        raise ConfigError("--resume takes its settings from the run; give no other setting with it")
    if repeated and overwrite:
        raise ConfigError(
            "--runs and --seeds go on with what is there; remove the directory to start afresh, without --overwrite"
        )
    if resume is None:
        config = _configuration(flags, "vitlr train", _TRAIN)
    if repeated:
        return _repeat(config, repeats, quiet, as_json)
    from vitlr.runs import train as runs

    if resume is not None:
        config = runs.read_config(resume)
    runs.check_run_dir(config.run_dir, resume=resume is not None, overwrite=overwrite)
    from vitlr.runs.interrupts import Interrupts

    with ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts())
        materials = _prepare(config, quiet or as_json)
        bar = stack.enter_context(Bar(config.learner.method, quiet=quiet or as_json))
        position = [0]

        def started(_, start: int) -> None:
            position[0] = start

        def recorded(record) -> None:
            position[0] += 1
            note = f"test accuracy {record.evaluation.test_accuracy:.3f}"
            bar.update(position[0], len(materials.stream), note)

        try:
            result = runs.train(
                config,
                materials,
                on_start=started,
                on_record=recorded,
                resume=resume is not None,
                overwrite=overwrite,
                interrupts=interrupts,
            )
        except KeyboardInterrupt:
            if (config.run_dir / "config.yaml").is_file():
                where = shlex.quote(str(config.run_dir))
                print(
                    f"\nstopped after {position[0]} of {len(materials.stream)} experiences;"
                    f" go on with: vitlr train --resume {where}",
                    file=sys.stderr,
                )
            raise
    if not quiet:
        for note in (result.summary["cache"] or {}).get("notes", []):
            err().print(note, markup=False, soft_wrap=True)
        if skipped := result.summary["skipped_images"]:
            images = "1 image" if skipped == 1 else f"{skipped:,} images"
            err().print(f"{images} could not be read and were left out", soft_wrap=True)
    if as_json:
        print(json.dumps({"run_dir": str(result.run_dir), **result.summary}, indent=2))
    elif not quiet:
        summary = result.summary
        print(
            f"test accuracy {summary['test_accuracy']:.4f} after {summary['experiences']} experiences"
            f" (average along the stream {summary['average_test_accuracy']:.4f},"
            f" {summary['seconds_per_experience']:.2f} s an experience)\n{result.run_dir}"
        )
    return 0


def _repeat(config, repeats: dict[str, str | None], quiet: bool, as_json: bool) -> int:
    """One method on several orders and seeds: a comparison of one variant."""
    from vitlr.commands.compare import finish, numbers, run_plan
    from vitlr.runs.compare import Plan
    from vitlr.runs.settings import to_dict

    given = {name: numbers(text, f"--{name}") for name, text in repeats.items() if text is not None}
    data, method = config.data, config.learner.method
    what = "folder" if data.dataset == "folder" else f"{data.dataset} {data.scenario}"
    plan = Plan(
        title=f"{method.replace('_', ' ')}, {what}",
        base=to_dict(config),
        variants={method.replace("_", " "): {}},
        runs=given.get("runs", (data.run,)),
        seeds=given.get("seeds", (config.seed,)),
    )
    where = Path(config.out or Path("runs") / f"{method} {what}".replace(" ", "-"))
    rows = run_plan(plan, where, quiet=quiet or as_json)
    return finish(plan.title, rows, where, as_json=as_json)


def _prepare(config, quiet: bool):
    from vitlr.runs.materials import prepare

    with ExitStack() as stack:
        bars: dict[str, Bar] = {}

        def show(title: str):
            def update(done: int, total: int) -> None:
                if title not in bars:
                    bars[title] = stack.enter_context(Bar(title, quiet=quiet))
                bars[title].update(done, total)

            return update

        materials = prepare(config, on_render=show("rendering"), on_test=show("encoding the test set"))
    if not quiet:
        for note in materials.stream.notes:
            err().print(note, markup=False, soft_wrap=True)
    return materials


def inspect(arguments: Sequence[str]) -> int:
    flags = Flags(arguments)
    as_json, _ = flags.switch("--json"), flags.switch("--quiet")
    config = _configuration(flags, "vitlr inspect", _INSPECT)
    from vitlr.runs.inspect import inspect_network, inspection_text

    report = inspect_network(config)
    print(json.dumps(report, indent=2) if as_json else inspection_text(report))
    return 0


def bench(arguments: Sequence[str]) -> int:
    flags = Flags(arguments)
    quiet, as_json = flags.switch("--quiet"), flags.switch("--json")
    advice = not flags.switch("--no-advice")
    numbers = {}
    for name, default in (("images", 300), ("repeats", 3)):
        text = flags.value(f"--{name}")
        if text is not None and (not text.isdigit() or int(text) < 1):
            raise ConfigError(f"--{name} must be a whole number >= 1, got {text}")
        numbers[name] = default if text is None else int(text)
    config = _configuration(flags, "vitlr bench", _BENCH)
    from vitlr.runs.bench import advise, bench_text, time_experience

    with Bar("measuring", quiet=quiet or as_json) as bar:
        report = time_experience(config, **numbers, progress=bar.callback())
    if advice:
        with Bar("other settings", quiet=quiet or as_json) as bar:
            report["alternatives"] = advise(config, report, images=numbers["images"], progress=bar.callback())
    print(json.dumps(report, indent=2) if as_json else bench_text(report))
    return 0
