"""What is remembered. Knows no model and no data set."""

from vitlr.replay.codec import CODECS, Codec
from vitlr.replay.memory import MemoryConfig, ReplayMemory
from vitlr.replay.policies import POLICIES

__all__ = ["CODECS", "POLICIES", "Codec", "MemoryConfig", "ReplayMemory"]
