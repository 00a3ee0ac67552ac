"""The replay memory: a bounded set of (latent, label) pairs.

Shape letters: M stored pairs, N offered pairs, B drawn pairs, T tokens, D width, C classes.

Stored latents are rows of a buffer, and what the memory holds is a list of its rows with their labels
(:class:`_Contents`). An offer writes into rows that no list still in use names, and then publishes a new list in one
assignment: an interrupt at any moment leaves either all of the old pairs or all of the new ones, and a copy of the
memory (``copy.copy``) stays whole whatever is offered to the original.
"""

from __future__ import annotations

import copy
import re
import weakref
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitlr.device import fits
from vitlr.errors import ConfigError, RunError
from vitlr.latents.record import Latents
from vitlr.replay.codec import Codec, codec_named
from vitlr.replay.policies import POLICIES, Offer, relabelled
from vitlr.storage.saved import saved_count, saved_tensor

__all__ = ["DEFAULT_BYTES", "MemoryConfig", "ReplayMemory", "parse_bytes"]

_LOGITS = "logits"  # the field, beside the codec's, of logits kept with the latents
DEFAULT_BYTES = "5MB"  # of latents, unless something else is asked for
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
        capacity: latents kept at most; 0 keeps none. By default as many as ``bytes`` allows.
        bytes: capacity in bytes of latents (such as ``20MB``), 5MB by default; takes the place of ``capacity``.
        policy: which latents stay: random (as published), reservoir, balanced (over classes) or
            spread (over classes and, within each, over experiences).
        codec: how a latent is stored: float32, bfloat16, int8 or int4. (Images are stored as they are.)
        tokens: all, or the side of the grid that patch tokens are merged to, for cuts below the last; auto merges 2 x 2
            if there are 8 x 8 or more and the last block alone is trained, which is worth more latents in the same
            bytes (docs/results.md), and keeps all of them below, where merging costs more than it gains.
    """

    capacity: int | None = None
    bytes: str | int | None = None
    policy: str = "spread"
    codec: str = "int8"
    tokens: str | int = "auto"

    def __post_init__(self) -> None:
        if self.capacity is not None and self.capacity < 0:
            raise ConfigError(f"memory.capacity must be >= 0 (0 keeps no latents), got {self.capacity}")
        if self.policy not in POLICIES:
            raise ConfigError(f"memory.policy must be one of {', '.join(POLICIES)}, got {self.policy!r}")
        codec_named(self.codec)
        _ = self.grid
        if self.bytes is not None:
            parse_bytes(self.bytes)

    @property
    def grid(self) -> int | str | None:
        """Side of the grid that patch tokens are merged to, auto, or None for all; ConfigError for anything else."""
        text = str(self.tokens)
        if text in ("all", "auto"):
            return None if text == "all" else text
        if not text.isdecimal() or int(text) < 1:
            raise ConfigError(
                f"memory.tokens must be auto, all, or the side of a grid such as 4, got {self.tokens!r:.40}"
            )
        return int(text)

    def capacity_for(self, tokens: int, width: int, codec: Codec | None = None) -> int:
        """Latents of that shape that fit, in the configured codec or the given one."""
        if self.bytes is None and self.capacity is not None:
            return self.capacity
        codec = codec or codec_named(self.codec)
        return parse_bytes(DEFAULT_BYTES if self.bytes is None else self.bytes) // codec.bytes_per_latent(
            tokens, width
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Contents:
    """What a memory holds: rows of the buffer, in order, with what belongs to each. Never changed, only replaced."""

    rows_M: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    labels_M: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    experiences_M: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    shape: tuple[int, int] | None = None  # (T, D) of a latent; None until one was offered
    logits_width: int = 0
    policy_state: dict[str, Any] = field(default_factory=dict)


class _Buffer:
    """Encoded latents, a row each; shared by copies of a memory. A row is free once no contents name it any more."""

    def __init__(self) -> None:
        self._users: set[weakref.ref[_Contents]] = set()
        self.device: torch.device | None = None  # None until something is stored
        self.fields: dict[str, Tensor] = {}

    @property
    def num_rows(self) -> int:
        return min((len(field) for field in self.fields.values()), default=0)

    def hold(self, contents: _Contents) -> None:
        """Keep the rows of these contents for as long as anyone has them."""
        self._users.add(weakref.ref(contents, self._users.discard))

    def free_rows(self, count: int) -> np.ndarray:
        """The first ``count`` row numbers, ascending, that nobody has; some may be beyond the end."""
        users = [user for user in (each() for each in self._users.copy()) if user is not None]
        taken = np.concatenate([np.zeros(0, dtype=np.int64), *(user.rows_M for user in users)])
        in_use = np.zeros(len(taken) + count + int(taken.max(initial=-1)) + 1, dtype=bool)
        in_use[taken] = True
        return np.flatnonzero(~in_use)[:count]

    def write(self, rows: np.ndarray, encoded: dict[str, Tensor], most: int | None) -> None:
        """Put codes into these rows; the buffer grows by doubling, up to ``most`` rows if it can."""
        needed = int(rows.max()) + 1
        for name, codes in encoded.items():
            room = self.fields.get(name)
            if room is not None and name == _LOGITS and room.shape[1] > codes.shape[1]:
                missing = room.shape[1] - codes.shape[1]
                codes = torch.nn.functional.pad(codes, (0, missing), value=float("-inf"))
            if room is None or len(room) < needed or room.shape[1:] != codes.shape[1:]:
                size = 2 * needed if most is None else max(needed, min(2 * needed, most))
                grown = codes.new_empty((max(size, 0 if room is None else len(room)), *codes.shape[1:]))
                if room is not None:
                    _copy_into(grown, room)
                self.fields[name] = room = grown
            room[torch.from_numpy(rows).to(room.device)] = codes

    def take(self, rows: np.ndarray, *names: str) -> dict[str, Tensor]:
        """The codes in these rows, wherever they are stored."""
        index = torch.from_numpy(rows)
        return {
            name: field.index_select(0, index.to(field.device, non_blocking=True))
            for name, field in self.fields.items()
            if name in names
        }


class ReplayMemory:
    """Stores what its policy chooses, in the precision of its codec; decodes the rows that are drawn.

    It grows to its capacity however small the first experiences are. It is stored on the device of the latents
    offered to it, or in the host's memory if a GPU has no room for all of them. With ``unbounded`` it keeps everything
    in the order offered, which cumulative training uses. ``codec`` takes the place of the configured one.

    ``copy.copy`` gives a memory with the same pairs that learns on its own.
    """

    def __init__(self, config: MemoryConfig, *, unbounded: bool = False, codec: Codec | None = None) -> None:
        self.config = config
        self._unbounded = unbounded
        self._codec = codec or codec_named(config.codec)
        self._policy = POLICIES[config.policy]
        self._buffer = _Buffer()  # holds no row yet
        self._contents = _Contents(policy_state=copy.deepcopy(self._policy.start))

    def __len__(self) -> int:
        return len(self._contents.labels_M)

    @property
    def labels(self) -> np.ndarray:
        """(M,) int64, the class of each stored pair."""
        return self._contents.labels_M

    @property
    def experiences(self) -> np.ndarray:
        """(M,) int64, the experience each stored pair came from."""
        return self._contents.experiences_M

    @property
    def capacity(self) -> int | None:
        """Pairs kept at most; None without a bound, or while a bound in bytes waits for the first latent."""
        shape = self._contents.shape
        if self._unbounded or (shape is None and self.config.bytes is not None):
            return None
        return self.config.capacity if shape is None else self.capacity_for(*shape)

    def capacity_for(self, tokens: int, width: int) -> int:
        """Latents of that shape that fit, if there is a bound."""
        return self.config.capacity_for(tokens, width, self._codec)

    @property
    def codec_name(self) -> str:
        """How latents are stored."""
        return self._codec.name

    @property
    def logits_width(self) -> int:
        """Classes of the logits kept with the latents; 0 if none are kept."""
        return self._contents.logits_width

    @property
    def num_bytes(self) -> int:
        """Bytes of the stored latents (codes and scales; a label adds 8) and of logits kept with them."""
        shape = self._contents.shape
        return (
            0 if shape is None else len(self) * (self._codec.bytes_per_latent(*shape) + 4 * self.logits_width)
        )

    def counts(self) -> dict[int, int]:
        """Stored pairs of each class."""
        classes, counts = np.unique(self.labels, return_counts=True)
        return dict(zip(classes.tolist(), counts.tolist(), strict=True))

    # -- changes ------------------------------------------------------------------------------------

    def offer(
        self,
        latents: Latents,
        labels_N: np.ndarray,
        experience: int,
        rng: np.random.Generator,
        logits_NC: Tensor | None = None,
    ) -> None:
        """Let the policy choose among new pairs. Latent, label and logits of a pair are taken from one row.

        ``logits_NC``, if given, are kept as float32 beside the latents: always or never, C may only grow.

        Raises:
            RunError: the latents are of another shape than those stored.
            ValueError: latents and labels of different number.

        Whatever is raised, an interrupt too, the memory is as it was.
        """
        labels_N = np.asarray(labels_N, dtype=np.int64)
        tokens_NTD = latents.tokens_NTD
        if len(tokens_NTD) != len(labels_N):
            raise ValueError(f"{len(tokens_NTD)} latents and {len(labels_N)} labels do not pair up")
        old = self._contents
        shape = (tokens_NTD.shape[1], tokens_NTD.shape[2])
        if old.shape is not None and shape != old.shape:
            raise RunError(
                f"the memory holds latents of shape {old.shape} and was offered {shape};"
                " use the same cut, image size and backbone, or start with an empty memory"
            )
        policy_state = copy.deepcopy(old.policy_state)
        chosen, slots = self._placed(labels_N, experience, shape, policy_state, rng)
        new = replace(old, shape=shape, policy_state=policy_state)
        if len(chosen):
            new = self._stored(
                new, latents[chosen].tokens_NTD, labels_N[chosen], experience, slots, logits_NC, chosen
            )
        self._publish(new)

    def _publish(self, contents: _Contents) -> None:
        self._buffer.hold(contents)
        self._contents = contents

    def _placed(
        self,
        labels_N: np.ndarray,
        experience: int,
        shape: tuple[int, int],
        policy_state: Any,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which offered pairs are kept, and in which slots: positions in the memory."""
        if self._unbounded:
            rows = np.arange(len(labels_N))
            return rows, rows + len(self)
        capacity = self.capacity_for(*shape)
        if capacity == 0:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        offer = Offer(
            stored_labels=self.labels,
            stored_experiences=self.experiences,
            labels=labels_N,
            experience=experience,
            capacity=capacity,
        )
        placement = self._policy.place(offer, policy_state, rng)
        return placement.rows, placement.slots

    def _stored(
        self,
        contents: _Contents,
        tokens_KTD: Tensor,
        labels_K: np.ndarray,
        experience: int,
        slots_K: np.ndarray,
        logits_NC: Tensor | None,
        chosen: np.ndarray,
    ) -> _Contents:
        """Contents with these pairs in their slots; their codes are written into rows that are not in use."""
        self._settle(tokens_KTD.device, contents.shape)
        encoded = self._codec.encode(tokens_KTD)
        width = contents.logits_width
        if logits_NC is not None:
            encoded[_LOGITS] = logits_NC[torch.from_numpy(chosen)].float()
            width = max(width, encoded[_LOGITS].shape[1])
        rows_K = self._buffer.free_rows(len(slots_K))
        most = None if self._unbounded else self.capacity_for(*contents.shape)  # type: ignore[misc]
        self._buffer.write(
            rows_K, {name: codes.to(self._buffer.device) for name, codes in encoded.items()}, most
        )
        added = np.zeros(max(0, int(slots_K.max()) + 1 - len(contents.rows_M)), dtype=np.int64)
        parts = [
            np.concatenate([part, added])
            for part in (contents.rows_M, contents.labels_M, contents.experiences_M)
        ]
        for part, values in zip(parts, (rows_K, labels_K, experience), strict=True):
            part[slots_K] = values
        return replace(
            contents,
            rows_M=parts[0],
            labels_M=parts[1],
            experiences_M=parts[2],
            logits_width=width,
        )

    def _settle(self, device: torch.device, shape: tuple[int, int] | None) -> None:
        """Choose where to store: with what is offered, if there is room for all that may be kept."""
        assert shape is not None
        if self._buffer.device is not None and not self._unbounded:
            return
        most = 2 * len(self) if self._unbounded else self.capacity_for(*shape)
        room = fits(max(0, most - len(self)) * self._codec.bytes_per_latent(*shape), device)
        self._buffer.device = device if room else torch.device("cpu")
        self._buffer.fields = {
            name: codes.to(self._buffer.device) for name, codes in self._buffer.fields.items()
        }

    def forget(self, label: int) -> int:
        """Remove every pair of a class; returns how many there were."""
        old = self._contents
        kept = np.flatnonzero(old.labels_M != label)
        if len(kept) < len(old.labels_M):
            left = replace(
                old,
                rows_M=old.rows_M[kept],
                labels_M=old.labels_M[kept],
                experiences_M=old.experiences_M[kept],
                # Nothing is left of an empty memory, not even how wide its logits were.
                logits_width=old.logits_width if len(kept) else 0,
            )
            self._publish(left)
        return len(old.labels_M) - len(kept)

    def regroup(self, index_C: np.ndarray) -> None:
        """Give pairs of class i the label ``index_C[i]``. Of logits of classes that become one the larger counts."""
        old = self._contents
        changed = replace(
            old,
            labels_M=index_C[old.labels_M],
            policy_state=relabelled(old.policy_state, index_C),
        )
        if old.logits_width:  # kept in the buffer, where a copy of this memory still reads the old ones
            fields = self._buffer.take(old.rows_M, *self._buffer.fields)
            columns = torch.from_numpy(index_C[: old.logits_width])
            logits_MC, width = fields[_LOGITS][:, : old.logits_width], int(columns.max()) + 1
            wide = logits_MC.new_full((len(logits_MC), width), float("-inf"))
            index = columns.to(logits_MC.device).expand(len(logits_MC), -1)
            fields[_LOGITS] = wide.scatter_reduce(1, index, logits_MC, "amax")
            buffer = _Buffer()
            buffer.device, buffer.fields = self._buffer.device, fields
            self._buffer = buffer
            changed = replace(changed, rows_M=np.arange(len(old.rows_M)), logits_width=width)
        self._publish(changed)

    # -- reading ------------------------------------------------------------------------------------

    def draw(self, rows_B: np.ndarray) -> Latents:
        """Float32 latents of the given stored pairs, on the memory's device; only these are decoded."""
        rows = self._contents.rows_M[np.asarray(rows_B, dtype=np.int64)]
        names = [name for name in self._buffer.fields if name != _LOGITS]
        return Latents(self._codec.decode(self._buffer.take(rows, *names)))

    def draw_logits(self, rows_B: np.ndarray) -> Tensor:
        """(B, C) logits kept with the given stored pairs; -inf for classes that came later."""
        rows = self._contents.rows_M[np.asarray(rows_B, dtype=np.int64)]
        found = self._buffer.take(rows, _LOGITS).get(_LOGITS)
        return torch.zeros(len(rows), 0) if found is None else found[:, : self.logits_width]

    # -- saved state --------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain data that restore this memory exactly (see ``load_state``)."""
        contents = self._contents
        names = [name for name in self._buffer.fields if name != _LOGITS or self.logits_width]
        fields = (
            self._buffer.take(contents.rows_M, *names) if contents.shape is not None and len(self) else {}
        )
        tensors = {f"fields.{name}": codes for name, codes in fields.items()}
        if _LOGITS in fields:
            tensors[f"fields.{_LOGITS}"] = fields[_LOGITS][:, : self.logits_width].contiguous()
        tensors["labels"] = torch.from_numpy(contents.labels_M.copy())
        tensors["experiences"] = torch.from_numpy(contents.experiences_M.copy())
        return tensors, {"policy_state": copy.deepcopy(contents.policy_state), "shape": contents.shape}

    def load_state(
        self, tensors: dict[str, Tensor], plain: dict[str, Any], device: torch.device | None = None
    ) -> None:
        """Take over what ``state`` of a memory with the same configuration gave; on the device, if there is room.

        Raises:
            RunError: it is not a state of such a memory; this one is as it was.
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
        contents = _Contents(
            rows_M=np.arange(count),
            labels_M=labels,
            experiences_M=experiences,
            shape=shape,
            logits_width=fields[_LOGITS].shape[1] if _LOGITS in fields else 0,
            policy_state=self._policy.saved_state(plain["policy_state"]),
        )
        self._buffer = _Buffer()
        self._buffer.fields = fields
        self._publish(contents)
        if shape is not None:
            self._settle(torch.device("cpu") if device is None else device, shape)

    def _check_fields(self, fields: dict[str, Tensor], shape: tuple[int, int] | None, count: int) -> None:
        """Raise RunError unless they are what the codec makes of ``count`` latents of that shape."""
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


def _copy_into(grown: Tensor, old: Tensor) -> None:
    """Rows of a smaller buffer into a larger one. Logits may have become wider: -inf for the classes added."""
    if grown.ndim == 2 and grown.shape[1] > old.shape[1]:
        grown[: len(old), old.shape[1] :] = float("-inf")
    grown[: len(old), ..., : old.shape[-1]] = old
