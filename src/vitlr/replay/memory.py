"""The replay memory: a bounded set of (latent, label) pairs.

Shape letters: M stored pairs, N offered pairs, B drawn pairs, T tokens, D width, C classes.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitlr.device import fits
from vitlr.errors import ConfigError, RunError
from vitlr.replay.codec import Codec, codec_named
from vitlr.replay.policies import POLICIES, Offer, saved_policy_state
from vitlr.storage.saved import saved_count, saved_tensor

__all__ = ["MemoryConfig", "ReplayMemory", "parse_bytes"]

_LOGITS = "logits"  # the field, beside the codec's, of logits kept with the latents
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def parse_bytes(text: str | int) -> int:
    """Number of bytes in ``"20MB"``, ``"512 KiB"`` or ``4096``; ConfigError for anything else."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]i?)?b?\s*", str(text).lower())
    if match is None:
        raise ConfigError(f"memory.bytes must be a size such as 20MB or 512KiB, got {text!r}")
    return int(float(match[1]) * _UNITS[match[2] or ""])


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """Size, policy and precision of the replay memory.

    Attributes:
        capacity: latents kept at most; 0 keeps none.
        bytes: capacity in bytes of latents instead (such as ``20MB``); takes the place of ``capacity``.
        policy: which latents stay: random (as published), reservoir, balanced (over classes) or
            spread (over classes and, within each, over experiences).
        codec: how a latent is stored: float32, bfloat16, int8 or int4.
    """

    capacity: int = 1500
    bytes: str | int | None = None
    policy: str = "spread"
    codec: str = "float32"

    def __post_init__(self) -> None:
        if self.capacity < 0:
            raise ConfigError(f"memory.capacity must be >= 0 (0 keeps no latents), got {self.capacity}")
        if self.policy not in POLICIES:
            raise ConfigError(f"memory.policy must be one of {', '.join(POLICIES)}, got {self.policy!r}")
        codec_named(self.codec)
        if self.bytes is not None:
            parse_bytes(self.bytes)

    def capacity_for(self, tokens: int, width: int, codec: Codec | None = None) -> int:
        """Latents of that shape that fit, in the configured codec or the given one."""
        if self.bytes is None:
            return self.capacity
        codec = codec or codec_named(self.codec)
        return parse_bytes(self.bytes) // codec.bytes_per_latent(tokens, width)


class ReplayMemory:
    """Stores what its policy chooses, in the precision of its codec; decodes the rows that are drawn.

    It grows to its capacity however small the first experiences are. It lies where the latents offered to it lie;
    in the host's memory where a GPU has no room for all of them. With ``unbounded`` it keeps everything
    in the order offered, which cumulative training uses. ``codec`` takes the place of the configured one.
    """

    def __init__(self, config: MemoryConfig, *, unbounded: bool = False, codec: Codec | None = None) -> None:
        self.config = config
        self._unbounded = unbounded
        self._codec = codec or codec_named(config.codec)
        self._policy = POLICIES[config.policy]
        self._policy_state: dict[str, Any] = {}
        self._fields: dict[str, Tensor] = {}  # codes, with room to grow: rows beyond len(self) are unused
        self._labels = np.zeros(0, dtype=np.int64)
        self._experiences = np.zeros(0, dtype=np.int64)
        self._shape: tuple[int, int] | None = None
        self._device: torch.device | None = None  # None until it is offered a latent

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def labels(self) -> np.ndarray:
        """(M,) int64, the class of each stored pair."""
        return self._labels

    @property
    def experiences(self) -> np.ndarray:
        """(M,) int64, the experience each stored pair came from."""
        return self._experiences

    @property
    def capacity(self) -> int | None:
        """Pairs kept at most; None where there is no bound, or where a bound in bytes waits for a latent."""
        if self._unbounded or (self._shape is None and self.config.bytes is not None):
            return None
        return self.config.capacity if self._shape is None else self.capacity_for(*self._shape)

    def capacity_for(self, tokens: int, width: int) -> int:
        """Latents of that shape that fit, where there is a bound."""
        return self.config.capacity_for(tokens, width, self._codec)

    @property
    def codec_name(self) -> str:
        """How latents are stored."""
        return self._codec.name

    @property
    def logits_width(self) -> int:
        """Classes of the logits kept with the latents; 0 where there are none."""
        return self._fields[_LOGITS].shape[1] if _LOGITS in self._fields else 0

    @property
    def num_bytes(self) -> int:
        """Bytes of the stored latents (codes and scales; a label adds 8) and of logits kept with them."""
        if self._shape is None:
            return 0
        return len(self) * (self._codec.bytes_per_latent(*self._shape) + 4 * self.logits_width)

    def counts(self) -> dict[int, int]:
        """Stored pairs of each class."""
        classes, counts = np.unique(self._labels, return_counts=True)
        return dict(zip(classes.tolist(), counts.tolist(), strict=True))

    def offer(
        self,
        latents_NTD: Tensor,
        labels_N: np.ndarray,
        experience: int,
        rng: np.random.Generator,
        logits_NC: Tensor | None = None,
    ) -> None:
        """Let the policy choose among new pairs. Latent, label and logits of a pair are taken from one row.

        ``logits_NC``, where given, are kept as float32 beside the latents: always or never, C may only grow.
        Whatever is raised, an interrupt too, the memory is as it was.
        """
        before = (self._shape, self._device, dict(self._fields), self._labels, self._experiences)
        policy_state = copy.deepcopy(self._policy_state)
        try:
            self._offer(latents_NTD, labels_N, experience, rng, logits_NC)
        except BaseException:
            self._shape, self._device, self._fields, self._labels, self._experiences = before
            self._policy_state = policy_state
            raise

    def _offer(
        self,
        latents_NTD: Tensor,
        labels_N: np.ndarray,
        experience: int,
        rng: np.random.Generator,
        logits_NC: Tensor | None,
    ) -> None:
        labels_N = np.asarray(labels_N, dtype=np.int64)
        if latents_NTD.ndim != 3 or len(latents_NTD) != len(labels_N):
            raise ValueError(f"latents {tuple(latents_NTD.shape)} and labels {labels_N.shape} do not pair up")
        shape = (latents_NTD.shape[1], latents_NTD.shape[2])
        if self._shape is not None and shape != self._shape:
            raise RunError(
                f"the memory holds latents of shape {self._shape} and was offered {shape};"
                " use the same cut, image size and backbone, or start with an empty memory"
            )
        self._shape = shape
        if self._unbounded:
            rows = np.arange(len(labels_N))
            slots = rows + len(self)
        else:
            capacity = self.capacity_for(*shape)
            if capacity == 0:
                return
            placement = self._policy(
                Offer(
                    stored_labels=self._labels,
                    stored_experiences=self._experiences,
                    labels=labels_N,
                    experience=experience,
                    capacity=capacity,
                ),
                self._policy_state,
                rng,
            )
            rows, slots = placement.rows, placement.slots
        if len(rows) == 0:
            return
        if self._device is None or self._unbounded:
            self._settle(latents_NTD.device)
        index = torch.from_numpy(rows)
        kept = None if logits_NC is None else logits_NC[index]
        self._store(latents_NTD[index.to(latents_NTD.device)], labels_N[rows], experience, slots, kept)

    def _settle(self, device: torch.device) -> None:
        """Choose where to lie: with what is offered, if there is room for all that may be kept."""
        assert self._shape is not None
        most = self.capacity if self.capacity is not None else 2 * len(self)
        room = fits(max(0, most - len(self)) * self._codec.bytes_per_latent(*self._shape), device)
        self._device = device if room else torch.device("cpu")
        self._fields = {name: codes.to(self._device) for name, codes in self._fields.items()}

    def _store(
        self, latents: Tensor, labels: np.ndarray, experience: int, slots: np.ndarray, logits: Tensor | None
    ) -> None:
        size = max(len(self), int(slots.max()) + 1)
        encoded = {name: codes.to(self._device) for name, codes in self._codec.encode(latents).items()}
        if logits is not None:
            logits = logits.to(self._device)
            encoded[_LOGITS] = logits.float()
            if _LOGITS in self._fields:
                self._fields[_LOGITS] = _widened(self._fields[_LOGITS], logits.shape[1])
        overwritten = slots[slots < len(self)]
        old = {name: (field, _rows(field, overwritten)) for name, field in self._fields.items()}
        try:
            self._write(encoded, slots, size)
        except BaseException:
            for field, rows in old.values():
                field[torch.from_numpy(overwritten).to(field.device)] = rows
            raise
        added = np.zeros(size - len(self), dtype=np.int64)
        all_labels = np.concatenate([self._labels, added])
        all_experiences = np.concatenate([self._experiences, added])
        all_labels[slots], all_experiences[slots] = labels, experience
        self._labels, self._experiences = all_labels, all_experiences

    def _write(self, encoded: dict[str, Tensor], slots: np.ndarray, size: int) -> None:
        """Codes into their rows, with room made for ``size``."""
        for name, codes in encoded.items():
            room = self._fields.get(name)
            if room is None or len(room) < size:
                # Doubling keeps the cost of growing proportional to what is stored in the end.
                rows = 2 * size if self.capacity is None else max(size, min(2 * size, self.capacity))
                grown = codes.new_empty((rows, *codes.shape[1:]))
                if room is not None:
                    grown[: len(self)] = room[: len(self)]
                self._fields[name] = room = grown
            room[torch.from_numpy(slots).to(room.device)] = codes

    def draw(self, rows_B: np.ndarray) -> Tensor:
        """Float32 latents (B, T, D) of the given stored rows, where the memory lies; only these are decoded."""
        codes = {name: field for name, field in self._fields.items() if name != _LOGITS}
        return self._codec.decode({name: _rows(field, rows_B) for name, field in codes.items()})

    def draw_logits(self, rows_B: np.ndarray) -> Tensor:
        """(B, C) logits kept with the given stored rows; -inf for classes that came later."""
        kept = self._fields.get(_LOGITS, torch.zeros(0, 0))
        return _rows(kept, rows_B)

    def forget(self, label: int) -> int:
        """Remove every pair of a class; returns how many there were."""
        keep = np.flatnonzero(self._labels != label)
        removed = len(self) - len(keep)
        if removed:
            # Nothing is left of an empty memory's fields, not even how wide its logits were.
            self._fields = {name: _rows(codes, keep) for name, codes in self._fields.items() if len(keep)}
            self._labels, self._experiences = self._labels[keep], self._experiences[keep]
        return removed

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain data that restore this memory exactly (see ``load_state``)."""
        tensors = {f"fields.{name}": codes[: len(self)].clone() for name, codes in self._fields.items()}
        tensors["labels"] = torch.from_numpy(self._labels.copy())
        tensors["experiences"] = torch.from_numpy(self._experiences.copy())
        return tensors, {"policy_state": copy.deepcopy(self._policy_state), "shape": self._shape}

    def load_state(
        self, tensors: dict[str, Tensor], plain: dict[str, Any], device: torch.device | None = None
    ) -> None:
        """Take over what ``state`` of a memory with the same configuration gave; on the device, if there is room.

        Raises:
            RunError: it is no state of such a memory; this one is as it was.
        """
        count, found = len(tensors.get("labels", ())), plain["shape"]
        labels = saved_tensor(tensors, "labels", (count,), torch.int64).numpy().copy()
        experiences = saved_tensor(tensors, "experiences", (count,), torch.int64).numpy().copy()
        fields = {
            name.removeprefix("fields."): codes.clone()
            for name, codes in tensors.items()
            if name.startswith("fields.")
        }
        shape = None
        if found is not None:
            shape = (saved_count(found[0], "tokens"), saved_count(found[1], "width"))
        self._check_fields(fields, shape, count)
        if shape is not None and not self._unbounded and count > self.capacity_for(*shape):
            raise RunError(
                f"the saved memory holds {count} latents and {self.capacity_for(*shape)} are allowed;"
                " use the settings it began with"
            )
        self._policy_state = saved_policy_state(self.config.policy, plain["policy_state"])
        self._fields, self._labels, self._experiences, self._shape = fields, labels, experiences, shape
        if self._shape is not None:
            self._settle(torch.device("cpu") if device is None else device)

    def _check_fields(self, fields: dict[str, Tensor], shape: tuple[int, int] | None, count: int) -> None:
        """RunError where they are not what the codec makes of ``count`` latents of that shape."""
        if not fields and count == 0:
            return
        if shape is None or 0 in shape:
            raise RunError("the saved memory holds latents of no shape; use another copy of it")
        # On no device: a shape alone must not make anyone reserve memory.
        wanted = self._codec.encode(torch.empty((1, *shape), device="meta"))
        if set(fields) - {_LOGITS} != set(wanted):
            raise RunError("the saved memory is of another codec; use the settings it began with")
        for name, codes in wanted.items():
            saved_tensor(fields, name, (count, *codes.shape[1:]), codes.dtype)
        if _LOGITS in fields:
            saved_tensor(fields, _LOGITS, (count, None), torch.float32)


def _rows(field: Tensor, rows: np.ndarray) -> Tensor:
    """These rows of a field, wherever it lies."""
    index = torch.from_numpy(np.asarray(rows, dtype=np.int64))
    return field.index_select(0, index.to(field.device, non_blocking=True))


def _widened(logits_MC: Tensor, num_classes: int) -> Tensor:
    """With columns of -inf added on the right up to ``num_classes``."""
    missing = max(0, num_classes - logits_MC.shape[1])
    return torch.cat([logits_MC, logits_MC.new_full((len(logits_MC), missing), float("-inf"))], dim=1)
