"""The network, cut in two: load it, split it, store a trained one, account for its cost.

Nothing of transformers is imported before a network is loaded.
"""

from vitlr.vit.backbone import Backbone, load_backbone, random_backbone
from vitlr.vit.compute.cut import PRECISIONS, Head, Precision, Trunk, split
from vitlr.vit.compute.images import ImageHead, ImageTrunk
from vitlr.vit.compute.precision import default_precision, measure_precisions
from vitlr.vit.exports.huggingface import save_image_classifier
from vitlr.vit.views.account import Account, account

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
    "load_backbone",
    "measure_precisions",
    "random_backbone",
    "save_image_classifier",
    "split",
]
