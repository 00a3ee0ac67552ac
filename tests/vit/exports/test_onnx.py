"""The ONNX file answers as we do, in ONNX Runtime, which shares no code with us."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vitlr.errors import ConfigError
from vitlr.vit import load_backbone, split
from vitlr.vit.exports.onnx import save_onnx

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cut", [3, 6])
def test_probabilities_equal_ours_for_any_number_of_images(cut: int, tmp_path: Path) -> None:
    backbone = load_backbone("bundled")
    trunk, head = split(backbone, cut)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # a head that differs from the backbone's, as after learning
        for parameter in head.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    weight = torch.randn(4, backbone.width, generator=generator)
    path = save_onnx(tmp_path / "model.onnx", backbone, head, weight, ["a", "b", "tea cup", "d"])
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"])[2] == "tea cup"
    for num in (1, 3):
        images = np.random.default_rng(num).integers(0, 256, (num, 128, 128, 3)).astype(np.uint8)
        (answers,) = session.run(None, {"images": images})
        with torch.no_grad():
            ours = (head(trunk(torch.from_numpy(images))) @ weight.T).softmax(dim=1).numpy()
        assert np.abs(answers - ours).max() < 1e-4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx"]


def test_a_classifier_without_classes_is_refused(tmp_path: Path) -> None:
    backbone = load_backbone("bundled")
    with pytest.raises(ConfigError, match="class"):
        save_onnx(tmp_path / "m.onnx", backbone, split(backbone, 5)[1], torch.zeros(0, backbone.width), [])
    assert not list(tmp_path.iterdir())
