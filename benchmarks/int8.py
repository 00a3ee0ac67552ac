"""The frozen trunk in 8-bit integers: time and error of several implementations.

    python benchmarks/int8.py --json int8.json               # ViT-B/32 at 128 px, cut 11
    pip install 'vitlr[onnx]' torchao                        # for those that need more than PyTorch

Compared are ``float32`` and ``bfloat16`` of this package; ``plain bfloat16``, the network of transformers;
``int8`` of this package (PyTorch's int8 kernels, one scale per token); ONNX Runtime's dynamic quantisation of the
exported trunk; and PyTorch's export quantisation (PT2E, torchao's X86InductorQuantizer, compiled). Start-up is the
time from the loaded network to the first latents. All alternate in one run; medians are reported. The distance is
|latents - float32 latents| / |float32 latents| on the same noise for all. The cost in accuracy is measured by
training (docs/performance.md).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
import torch._inductor.config
from torch import Tensor, nn

from vitlr.runs.tracking import machine
from vitlr.vit import Backbone, Trunk, default_precision, load_backbone
from vitlr.vit.compute.cut import normalised, pixel_scale

Encode = Callable[[Tensor], Tensor]


class FromPixels(nn.Module):
    """The float32 trunk on normalised pixels, the part that can be exported."""

    def __init__(self, backbone: Backbone, cut: int) -> None:
        super().__init__()
        family, model = backbone.family, backbone.model
        self.embeddings, self.blocks = family.embeddings(model), family.blocks(model)[:cut]

    def forward(self, pixels: Tensor) -> Tensor:
        latents = self.embeddings(pixels)
        for block in self.blocks:
            latents = block(latents, None)
        return latents


def pixels_of(backbone: Backbone, images: Tensor) -> Tensor:
    return normalised(images, *pixel_scale(backbone), torch.float32, images.device).contiguous()


def own(precision: str) -> Callable[[Trunk, Tensor, object], Encode]:
    def make(trunk: Trunk, images: Tensor, backbone: Backbone) -> Encode:
        return Trunk(backbone, trunk.cut, precision=precision)

    return make


def plain_bfloat16(trunk: Trunk, images: Tensor, backbone: Backbone) -> Encode:
    """The blocks of transformers after ``model.bfloat16()``."""
    network = deepcopy(FromPixels(backbone, trunk.cut)).bfloat16()
    return lambda images: network(pixels_of(backbone, images).bfloat16()).float()


def onnx_runtime(trunk: Trunk, images: Tensor, backbone: Backbone) -> Encode:
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        plain, quantised = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        program = torch.onnx.export(
            FromPixels(backbone, trunk.cut),
            (pixels_of(backbone, images),),
            dynamo=True,
            verbose=False,
            input_names=["pixels"],
        )
        assert program is not None
        program.save(plain)
        quantize_dynamic(plain, quantised, per_channel=True, weight_type=QuantType.QInt8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(quantised, options, providers=["CPUExecutionProvider"])

    def encode(images: Tensor) -> Tensor:
        found = session.run(None, {"pixels": pixels_of(backbone, images).numpy()})[0]
        return torch.from_numpy(np.asarray(found))

    return encode


def pt2e(trunk: Trunk, images: Tensor, backbone: Backbone) -> Encode:
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    pixels = pixels_of(backbone, images)
    program = torch.export.export(FromPixels(backbone, trunk.cut), (pixels,)).module()
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config(is_dynamic=True))
    prepared = prepare_pt2e(program, quantizer)
    prepared(pixels)
    torch._inductor.config.freezing = True
    compiled = torch.compile(convert_pt2e(prepared))

    def encode(images: Tensor) -> Tensor:
        with torch.no_grad():
            return compiled(pixels_of(backbone, images))

    return encode


WAYS = {
    "float32": own("float32"),
    "bfloat16": own("bfloat16"),
    "plain bfloat16": plain_bfloat16,
    "int8": own("int8"),
    "ONNX Runtime int8": onnx_runtime,
    "PyTorch PT2E int8": pt2e,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="random:B_32", help="default %(default)s")
    parser.add_argument("--cut", type=int, default=11, help="default %(default)s")
    parser.add_argument("--batch-size", type=int, default=64, help="default %(default)s")
    parser.add_argument("--repeats", type=int, default=9, help="default %(default)s")
    parser.add_argument(
        "--only", action="append", choices=list(WAYS), help="measure only this one; may be repeated"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_grad_enabled(False)
    backbone = load_backbone(options.backbone, image_size=128)
    trunk = Trunk(backbone, options.cut)
    images = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (options.batch_size, 128, 128, 3), dtype=np.uint8)
    )
    exact = trunk(images)
    ways, rows = {}, {}
    for name in options.only or WAYS:
        began = time.perf_counter()
        try:
            ways[name] = WAYS[name](trunk, images, backbone)
            found = ways[name](images)
        except ImportError as error:
            print(f"{name}: not measured, {error.name} is not installed")
            continue
        except Exception as error:  # another project's compiler failed: report it and measure the others
            print(f"{name}: not measured, {type(error).__name__}: {' '.join(str(error).split())[:160]}")
            continue
        distance = float((found - exact).norm() / exact.norm())
        rows[name] = {"start_seconds": time.perf_counter() - began, "distance": distance, "ms": []}
        print(f"{name}: ready after {rows[name]['start_seconds']:.1f} s", flush=True)
    for repeat in range(options.repeats + 1):
        for name, encode in ways.items():
            start = time.perf_counter()
            encode(images)
            if repeat:  # the first warms up
                rows[name]["ms"].append(1e3 * (time.perf_counter() - start) / len(images))
    for row in rows.values():
        row["ms"] = statistics.median(row["ms"])
    info = machine()
    print(f"{info['processor']}, {info['threads']} threads, torch {info['torch']}")
    print(f"{options.backbone}, 128 px, cut {options.cut}, batches of {options.batch_size}")
    against = [name for name in ("bfloat16", "float32") if name in rows]
    print(
        f"{'':<20}{'ms an image':>12}{'start, s':>10}{'distance':>10}", *(f"{f'of {n}':>13}" for n in against)
    )
    for name, row in rows.items():
        row |= {f"of_{other}": row["ms"] / rows[other]["ms"] for other in against}
        print(
            f"{name:<20}{row['ms']:>12.2f}{row['start_seconds']:>10.1f}{row['distance']:>10.4f}",
            *(f"{row[f'of_{other}']:>12.2f}x" for other in against),
        )
    if options.json:
        report = {"machine": info, "default": default_precision(), "ways": rows}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
