"""A long stream: do memory, open files and the time of an experience stay level?

    python stress/long_run.py --json long.json           # 2,000 experiences, about three minutes

A tiny network learns 10 classes, 4 pictures per experience, with everything else that a run does:
evaluation, a record, TensorBoard events and a checkpoint after every experience. The medians of the second tenth of
the experiences are compared with those of the last; in the first tenth the memory fills and libraries load.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tiny import picture, save_network

from vitlr.data import DATASETS
from vitlr.data.experience import Experience, Stream
from vitlr.runs.settings import parse
from vitlr.runs.tracking import machine
from vitlr.runs.train import train

CLASSES, PICTURES, EACH = 10, 40, 4


def stream(length: int, root: Path, seed: int) -> Stream:
    """Experiences of one class each, which repeat the same pictures."""
    for class_ in range(CLASSES):
        for number in range(PICTURES):
            path = root / f"{class_}-{number}.png"
            if not path.exists():
                Image.fromarray(picture(class_, number)).save(path)
    rng = np.random.default_rng(seed)
    experiences = []
    for index in range(length):
        class_ = int(rng.integers(CLASSES))
        paths = tuple(f"{class_}-{number}.png" for number in rng.integers(5, PICTURES, EACH))
        experiences.append(
            Experience(index=index, name=f"experience {index}", paths=paths, labels=np.full(EACH, class_))
        )
    test = [(class_, number) for class_ in range(CLASSES) for number in range(5)]
    return Stream(
        name="long",
        root=root,
        experiences=tuple(experiences),
        test=Experience(
            index=0,
            name="test",
            paths=tuple(f"{class_}-{number}.png" for class_, number in test),
            labels=np.array([class_ for class_, _ in test]),
        ),
        class_names=tuple(f"class {class_}" for class_ in range(CLASSES)),
    )


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--experiences", type=int, default=2000, help="default %(default)s")
    parser.add_argument("--method", default="latent_replay", help="default %(default)s")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    DATASETS["long"] = lambda config, progress: stream(options.experiences, Path(config.root), config.seed)
    rows: list[tuple[float, int, int]] = []
    last = [time.perf_counter()]
    with tempfile.TemporaryDirectory(prefix="vitlr-long-") as folder:
        place = Path(folder)
        (place / "pictures").mkdir()
        config = parse(
            [
                *("--data.dataset=long", f"--data.root={place / 'pictures'}", f"--out={place / 'run'}"),
                *(f"--backbone.name={save_network(place / 'network')}",),
                *("--memory.capacity=50", "--learner.batch_size=16", f"--learner.method={options.method}"),
                "--backbone.cache=off",
            ]
        )

        def note(record: Any) -> None:
            now = time.perf_counter()
            rows.append((now - last[0], resident_bytes(), len(os.listdir("/proc/self/fd"))))
            last[0] = now
            if len(rows) % 200 == 0:
                print(
                    f"{len(rows):>6} experiences: {1e3 * statistics.median(row[0] for row in rows[-200:]):.1f} ms each,"
                    f" {rows[-1][1] / 1e6:.1f} MB, {rows[-1][2]} open files",
                    flush=True,
                )

        result = train(config, on_record=note)
        files = sum(path.stat().st_size for path in (place / "run").rglob("*") if path.is_file())
    tenth = max(1, len(rows) // 10)
    early, late = rows[tenth : 2 * tenth], rows[-tenth:]

    def median(part: list[tuple[float, int, int]], column: int) -> float:
        return statistics.median(row[column] for row in part)

    report = {
        "machine": machine(),
        "experiences": len(rows),
        "ms_early": 1e3 * median(early, 0),
        "ms_late": 1e3 * median(late, 0),
        "time_ratio": median(late, 0) / median(early, 0),
        "bytes_early": median(early, 1),
        "bytes_late": median(late, 1),
        "bytes_an_experience": (median(late, 1) - median(early, 1)) / (len(rows) - 2 * tenth or 1),
        "files_early": median(early, 2),
        "files_late": median(late, 2),
        "run_directory_bytes": files,
        "final_accuracy": result.summary["test_accuracy"],
    }
    print(
        f"experience: {report['ms_early']:.2f} ms early, {report['ms_late']:.2f} ms late ({report['time_ratio']:.2f}x);"
        f" memory {report['bytes_early'] / 1e6:.1f} MB early, {report['bytes_late'] / 1e6:.1f} MB late"
        f" ({report['bytes_an_experience']:.0f} bytes an experience);"
        f" open files {report['files_early']:.0f} and {report['files_late']:.0f}"
    )
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
