"""The model card of an exported model: what it is, which classes it knows, how it was made."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from vitlr.text import harmless

__all__ = ["SHOWN", "markdown", "model_card"]

SHOWN = 100  # class names; more are counted


_SPECIAL = re.compile(r"[\\`*_\[\]<>&#|~]")


def markdown(text: str) -> str:
    """A text in Markdown that reads as it is written: no link, image, tag or emphasis begins in it."""
    return _SPECIAL.sub(lambda found: "\\" + found[0], harmless(text))


def model_card(
    class_names: Sequence[str],
    *,
    backbone: str,
    cut: int,
    num_blocks: int,
    image_size: int,
    settings: Mapping[str, Any],
    data: str,
    figures: Mapping[str, str],
    precision: str = "float32",
    trained: bool = True,
) -> str:
    """Markdown with the header of Hugging Face model directories.

    Args:
        settings: plain data, shown as JSON.
        data: a sentence about the training data.
        figures: measured values by name; empty if nothing was measured.
        precision: of the frozen blocks during teaching; exported weights are float32.
        trained: if the blocks above the cut were trained; otherwise the classifier was made in closed form.
    """
    names = ", ".join(markdown(str(name)) for name in class_names[:SHOWN])
    backbone = harmless(backbone).replace("`", "'")
    more = f" and {len(class_names) - SHOWN} more" if len(class_names) > SHOWN else ""
    number = f"{len(class_names)} {'class' if len(class_names) == 1 else 'classes'}"
    ran = (
        ""
        if precision == "float32"
        else f" They ran in {precision} during teaching and run in float32 here, so probabilities differ slightly."
    )
    made = (
        f"Blocks 1 to {cut} are those of `{backbone}`; those above, the final norm and the classifier were trained,"
        if trained
        else f"All of them are those of `{backbone}`; the classifier was computed from their features in closed form,"
    )
    measured = [f"* {markdown(name)}: {markdown(str(value))}" for name, value in figures.items()] or [
        "Nothing was measured."
    ]
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "pipeline_tag: image-classification",
            "tags: [continual-learning, latent-replay, vitlr]",
            "---",
            "",
            "# Image classifier, taught experience by experience",
            "",
            f"A vision transformer of {num_blocks} blocks for images of {image_size} pixels. {made} experience by"
            f" experience.{ran}",
            "",
            f"**Data.** {markdown(data)}",
            "",
            f"**{number}.** {names}{more}. It answers with one of these for any image,"
            " even if it was never shown such a thing.",
            "",
            "**Figures.**",
            "",
            *measured,
            "",
            "**Settings.**",
            "",
            "```json",
            json.dumps(settings, indent=2, default=str),
            "```",
            "",
            "```python",
            "from transformers import pipeline",
            "",
            'classify = pipeline("image-classification", model=".")',
            "```",
            "",
        ]
    )
