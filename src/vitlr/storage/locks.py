from vitlr.storage.files import locked

__all__ = ["locked"]
