from vitlr.runs.checkpoint import checksum, load_state, save_state, write_state

__all__ = ["checksum", "load_state", "save_state", "write_state"]
