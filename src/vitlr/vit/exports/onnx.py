"""A trained classifier as one ONNX file, from pixels to probabilities.

Input ``images``: uint8 (N, H, W, 3), RGB, of the network's size; output ``probabilities``: float32 (N, C), in
the order of the class names, which the file carries as JSON in its metadata (``class_names``). Normalisation is
inside. Everything is float32, even if the trunk here runs in bfloat16.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitlr.errors import ConfigError, RunError
from vitlr.storage.files import write_atomically
from vitlr.vit.backbone import Backbone
from vitlr.vit.compute.class_token import class_token_block
from vitlr.vit.compute.cut import Head, normalised, pixel_scale
from vitlr.vit.compute.merge import merged_tokens
from vitlr.vit.compute.products import plain, with_linears
from vitlr.vit.compute.whole_block import whole_block

__all__ = ["save_onnx"]

OPSET = 18


class _PixelsToProbabilities(nn.Module):
    """The whole network as trained: embedding and lower blocks of the backbone, the head, the classifier.

    A classifier on class tokens reads them from the frozen blocks, those above the cut included.
    """

    tokens_CW: Tensor | None
    log_sizes_T: Tensor | None
    merging_ST: Tensor | None

    def __init__(
        self,
        backbone: Backbone,
        head: Head,
        weight_CD: Tensor,
        bias_C: Tensor | None,
        tokens_CW: Tensor | None,
    ) -> None:
        super().__init__()
        family = self.family = backbone.family
        self.embeddings = deepcopy(family.embeddings(backbone.model))
        frozen = list(family.blocks(backbone.model))
        # Plain layers, which the exporter knows: those of the head call a kernel by name.
        self.lower, self.trained, self.upper = (
            nn.ModuleList(with_linears(deepcopy(block), plain) for block in blocks)
            for blocks in (
                frozen[: head.cut],
                head.blocks.values(),
                () if tokens_CW is None else frozen[head.cut :],
            )
        )
        self.norm = deepcopy(head.norm)
        self.kept = 0 if tokens_CW is None else tokens_CW.shape[1] // backbone.width
        self.register_buffer("tokens_CW", tokens_CW)
        self.register_buffer("log_sizes_T", head.log_sizes_T)
        merging = None
        if head.grid is not None:
            # Averages are linear: their matrix is what they make of the unit matrix.
            unit_TT, prefix = torch.eye(backbone.tokens), family.prefix_tokens(backbone.config)
            merging = merged_tokens(unit_TT[None], prefix, head.grid)[0]
        self.register_buffer("merging_ST", merging)
        self.gain, self.shift = pixel_scale(backbone)
        self.register_buffer("weight_CD", weight_CD.float())
        self.register_buffer("bias_C", torch.zeros(len(weight_CD)) if bias_C is None else bias_C.float())

    def forward(self, images: Tensor) -> Tensor:
        pixels = normalised(images, self.gain, self.shift, torch.float32, images.device)
        tokens = self.embeddings(pixels)
        class_tokens = []
        for block in self.lower:
            tokens = block(tokens, None)
            class_tokens.append(tokens[:, 0])
        features = self.norm(self._head(tokens))
        logits = features @ self.weight_CD.T + self.bias_C
        if self.tokens_CW is not None:
            for block in self.upper:
                tokens = block(tokens, None)
                class_tokens.append(tokens[:, 0])
            kept = torch.stack(class_tokens[-self.kept :], dim=1)
            joined = functional.layer_norm(kept, kept.shape[-1:]).flatten(1)
            logits = logits + (joined.double() @ self.tokens_CW.T).float()
        return logits.softmax(dim=-1)

    def _head(self, tokens: Tensor) -> Tensor:
        """The class token after the trained blocks."""
        if not len(self.trained):
            return tokens[:, 0]
        if self.merging_ST is not None:
            tokens = self.merging_ST @ tokens
        *whole, last = self.trained
        for block in whole:
            if self.log_sizes_T is None:
                tokens = block(tokens, None)
            else:
                tokens = whole_block(self.family.parts(block), tokens, self.log_sizes_T)
        return class_token_block(self.family.parts(last), tokens, self.log_sizes_T)


def save_onnx(
    path: str | Path,
    backbone: Backbone,
    head: Head,
    weight_CD: Tensor,
    class_names: Sequence[str],
    *,
    bias_C: Tensor | None = None,
    tokens_CW: Tensor | None = None,
) -> Path:
    """Write the file, atomically; returns its path. Arguments as ``save_image_classifier`` takes them.

    Args:
        tokens_CW: float64, of a classifier on the class tokens of the last frozen blocks, joined; its products are
            added to the logits.

    Raises:
        ConfigError: the extra ``onnx`` is not installed, or weight and class names do not match.
        RunError: the file cannot be written.
    """
    if len(class_names) == 0 or weight_CD.shape != (len(class_names), backbone.width):
        raise ConfigError(
            f"the classifier has shape {tuple(weight_CD.shape)} and {len(class_names)} class names;"
            " teach it a class first"
        )
    path = Path(path)
    if path.is_dir():  # checked before the export, which takes seconds
        raise RunError(f"{path} is a directory: name a file, such as {path.name}.onnx")
    try:
        import onnx
        import onnxscript  # noqa: F401  torch's exporter needs it
    except ImportError:
        raise ConfigError(
            "writing ONNX needs more packages; install them with: pip install 'vitlr[onnx]'"
        ) from None
    side = backbone.image_size
    network = _PixelsToProbabilities(backbone, head, weight_CD, bias_C, tokens_CW).eval().cpu()
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    buffer = io.BytesIO()
    with torch.no_grad(), _quiet_exporter():
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes={"images": {0: torch.export.Dim("N", min=1)}},
        )
    assert program is not None
    model = program.model_proto
    for key, value in (
        ("class_names", json.dumps(list(class_names))),
        ("input", f"uint8 RGB (N, {side}, {side}, 3)"),
    ):
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, buffer)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}; choose another file") from error
    write_atomically(path, [buffer.getvalue()])
    return path


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Hide the exporter's own deprecation warnings and its warning that torchvision is missing."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
