"""``vitlr.files`` under the name by which runs know it."""

from vitlr.files import locked, write_atomically

__all__ = ["locked", "write_atomically"]
