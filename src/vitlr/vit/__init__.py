"""The network, cut in two: load it, split it, encode images, store a trained one, account for its cost.

Nothing of transformers is imported before a network is loaded.
"""

from vitlr.vit.account import Account, account
from vitlr.vit.backbone import Backbone, load_backbone, random_backbone
from vitlr.vit.cut import PRECISIONS, Head, Precision, Trunk, split
from vitlr.vit.encode import encode
from vitlr.vit.export import save_image_classifier
from vitlr.vit.images import ImageHead, ImageTrunk
from vitlr.vit.precision import default_precision, measure_precisions

__all__ = [
    "PRECISIONS",
    "Account",
    "Backbone",
    "Head",
    "ImageHead",
    "ImageTrunk",
    "Precision",
    "Trunk",
    "account",
    "default_precision",
    "encode",
    "load_backbone",
    "measure_precisions",
    "random_backbone",
    "save_image_classifier",
    "split",
]
