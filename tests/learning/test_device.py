"""What a GPU would be given to do, without a GPU.

PyTorch's device ``meta`` stands in for one: its tensors compute nothing and cannot be read by the host, and the mode
below refuses what a GPU refuses, operations on tensors of two devices. What is computed is checked on the CPU.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vitlr import device as devices
from vitlr.classifier import LatentReplayClassifier
from vitlr.errors import ConfigError
from vitlr.latents.network import Network
from vitlr.latents.record import Latents
from vitlr.latents.settings import BackboneConfig
from vitlr.learning import GradientLearner, LearnerConfig, gradient
from vitlr.replay import MemoryConfig, ReplayMemory
from vitlr.runs.settings import parse
from vitlr.vit import Backbone, Head, Trunk, random_backbone

COPIES = ("_to_copy", "copy_")


class OneDevice(TorchDispatchMode):
    """Refuses operations on tensors of two devices, but for copies and plain numbers; counts reads by the host."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.reads += name == "_local_scalar_dense"
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        places = {tensor.device.type for tensor in tensors if tensor.ndim > 0}
        assert len(places) <= 1 or name in COPIES, f"{func} on {places}"
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return random_backbone("random:Ti_32", blocks=2, image_size=64)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lets ``meta`` do what a GPU can; returns how many numbers were read each time that training reads some."""
    read: list[int] = []
    sgd = torch.optim.SGD
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())
    monkeypatch.setattr(
        torch.optim, "SGD", lambda groups, **kwargs: sgd(groups, **(kwargs | {"fused": False}))
    )
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(gradient, "_read", lambda scalars: read.append(len(scalars)) or [0.5] * len(scalars))
    monkeypatch.setattr(gradient, "_all_finite", lambda tensors: True)
    # Reads a number once an experience, which is no round trip of a step.
    monkeypatch.setattr(
        gradient.cwr, "consolidate", lambda cw, past, tw, current: (tw - tw.mean(), past + current)
    )
    return read


def on_meta(module: nn.Module) -> nn.Module:
    return module.to("meta")


@pytest.mark.parametrize(
    ("method", "settings", "codec"),
    [
        ("latent_replay", {}, "float32"),
        ("latent_replay", {}, "bfloat16"),
        ("latent_replay", {}, "int8"),
        ("latent_replay", {}, "int4"),
        ("ar1_replay", {"si_lambda": 10.0}, "float32"),
        ("naive", {}, "float32"),
        ("cumulative", {}, "float32"),
    ],
)
def test_on_a_gpu_training_stays_there_and_is_read_once_an_epoch(
    backbone: Backbone, stand_in: list[int], method: str, settings: dict[str, Any], codec: str
) -> None:
    head = on_meta(Head(backbone, 1))
    model = GradientLearner(
        head,  # type: ignore[arg-type]
        LearnerConfig(method=method, epochs=3, batch_size=4, **settings),
        MemoryConfig(capacity=30, codec=codec),
        np.random.default_rng(0),
    )
    with OneDevice() as mode:
        for experience in range(3):
            stand_in.clear()
            latents = torch.empty(12, *head.latent_shape)  # from the host, as the cache gives them
            stats = model.learn(Latents(latents), np.arange(12) % 4 + experience, experience)
            assert stats.steps >= 9
            assert len(stand_in) == 2 * 3 + 2  # losses and hits of each epoch, gradients at the end
    assert mode.reads == 0
    assert {field.device.type for field in model.memory._buffer.fields.values()} <= {"meta"}
    assert model.classifier_CD.device.type == "meta"


def test_the_trunk_takes_images_from_the_host_and_leaves_latents_on_the_device(backbone: Backbone) -> None:
    trunk = Trunk(random_backbone("random:Ti_32", blocks=2, image_size=64), 1, device="meta")
    with OneDevice():
        latents = trunk(torch.zeros(5, 64, 64, 3, dtype=torch.uint8))
        none = trunk(torch.zeros(0, 64, 64, 3, dtype=torch.uint8))
    assert latents.device.type == none.device.type == "meta"
    assert latents.shape == (5, *trunk.latent_shape)


def test_more_steps_are_no_more_reads_by_the_host(backbone: Backbone) -> None:
    """On the CPU, where all of it is computed."""
    reads = []
    for batch_size in (2, 12):
        model = GradientLearner(
            Head(backbone, 1),
            LearnerConfig(method="latent_replay", batch_size=batch_size),
            MemoryConfig(capacity=30),
            np.random.default_rng(0),
        )
        latents = torch.randn(12, *model.head.latent_shape, generator=torch.Generator().manual_seed(0))
        with OneDevice() as mode:
            model.learn(Latents(latents), np.arange(12) % 4, 0)
        reads.append(mode.reads)
    assert reads[0] == reads[1]


def test_a_memory_for_which_the_gpu_has_no_room_stays_with_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2_000_000, 10_000_000))
    assert devices.fits(1_000_000, gpu)
    assert not devices.fits(1_000_001, gpu)
    assert devices.fits(10**15, torch.device("cpu"))

    asked: list[int] = []
    monkeypatch.setattr(
        "vitlr.replay.memory.fits", lambda num_bytes, device: bool(asked.append(num_bytes)) and False
    )
    memory = ReplayMemory(MemoryConfig(capacity=10, codec="float32"))
    memory.offer(Latents(torch.zeros(4, 3, 8)), np.arange(4), 0, np.random.default_rng(0))
    assert asked == [10 * 3 * 8 * 4]  # of all that may be kept, not of the first few
    assert memory.draw(np.arange(2)).tokens_NTD.device.type == "cpu"


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "meta", "", "cuda:0; rm"])
def test_a_device_that_is_none_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=r"device must be cpu, cuda"):
        devices.device_named(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_with_the_remedy(backbone: Backbone) -> None:
    with pytest.raises(ConfigError, match="sees 0 GPUs here; choose cpu"):
        Network.open(BackboneConfig(device="cuda"))
    with pytest.raises(ConfigError, match="sees 0 GPUs here"):
        LatentReplayClassifier(device="cuda:1").prepare()
    assert devices.device_named("auto") == torch.device("cpu")


def test_device_is_a_flag_of_its_own() -> None:
    assert parse(["--device", "cuda"]).backbone.device == "cuda"
    assert parse(["--device=auto"]).backbone.device == "auto"
