"""What the tools that measure on a data set in CORe50's layout share: its videos, the default encoder, the figures."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from vitlr.classifier.saved import kept_by
from vitlr.data.core50 import parse_frame
from vitlr.latents.encoder import Encoder
from vitlr.latents.network import Network
from vitlr.latents.settings import BackboneConfig
from vitlr.latents.views import ViewPlan
from vitlr.learning import LearnerConfig, needs_of
from vitlr.replay import MemoryConfig

__all__ = ["TEST_SESSIONS", "cell", "encoder_of", "videos_by_session", "videos_by_use"]

TEST_SESSIONS = (3, 7, 10)


def videos_by_session(root: Path) -> dict[tuple[int, int], list[str]]:
    """Paths, in their order, by session and object."""
    videos: dict[tuple[int, int], list[str]] = defaultdict(list)
    for path in sorted(root.glob("s*/o*/*.png")):
        session, each, _ = parse_frame(path.relative_to(root).as_posix())
        videos[session, each].append(str(path))
    return videos


def videos_by_use(root: Path) -> dict[tuple[bool, int], list[str]]:
    """Paths by whether they are for testing, and by object; those of a session stay together."""
    videos: dict[tuple[bool, int], list[str]] = defaultdict(list)
    for (session, each), paths in videos_by_session(root).items():
        videos[session in TEST_SESSIONS, each] += paths
    return videos


def encoder_of(backbone: BackboneConfig, config: LearnerConfig) -> Encoder:
    """Images to latents as a classifier with these settings and the default memory makes them; cached."""
    network = Network.open(backbone, cached=True, **kept_by(config, MemoryConfig()))
    needs = needs_of(config)
    return Encoder(network, stream=True, views=ViewPlan(views=needs.views, budget=needs.view_budget))


def cell(pair: tuple[float, float | None] | None) -> str:
    """Mean and s.d. in percent."""
    return "-" if pair is None else f"{100 * pair[0]:.1f} ± {100 * (pair[1] or 0):.1f}"
