"""The cut network: its class tokens, what identifies it, and what can change a latent."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.tiny_networks import KINDS, MEAN, STD, make_directory, random_images

import vitlr
from vitlr.errors import BackboneError, ConfigError, RunError
from vitlr.latents import identity
from vitlr.latents.encoder import Encoder
from vitlr.latents.network import Network
from vitlr.latents.settings import BackboneConfig
from vitlr.storage.locks import locked
from vitlr.storage.state import load_state, save_state
from vitlr.vit import Trunk, load_backbone
from vitlr.vit.compute.int8 import int8_is_fast
from vitlr.vit.compute.precision import Compute, resolved

SOURCE = Path(vitlr.__file__).parent
PRECISIONS = ["float32", "bfloat16", *(["int8"] if int8_is_fast() else [])]


def opened(directory: Path, precision: str = "float32", **settings: object) -> Network:
    config = BackboneConfig(name=str(directory), precision=precision, **settings)  # type: ignore[arg-type]
    return Network.open(config)


# -- class tokens -----------------------------------------------------------------------------------------


def transformers_class_tokens(
    directory: Path, kind: str, images_NHWC: torch.Tensor, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """(N, L, D): token 0 after each block, before the final norm, as transformers' own blocks give it."""
    import transformers

    model = getattr(transformers, KINDS[kind][1]).from_pretrained(directory).eval().to(dtype)
    layers = model.layers if hasattr(model, "layers") else model.encoder.layer
    found: list[torch.Tensor] = []

    def keep(_module: torch.nn.Module, _inputs: object, output: object) -> None:
        found.append((output[0] if isinstance(output, tuple) else output)[:, 0])  # type: ignore[index]

    for layer in layers:
        layer.register_forward_hook(keep)
    centre, spread = torch.tensor([MEAN, STD], dtype=torch.float64)
    pixels = (images_NHWC.to(torch.float64) / 255 - centre) / spread
    with torch.no_grad():
        output = model(pixels.permute(0, 3, 1, 2).to(dtype), output_hidden_states=True)
    for number in range(1, len(layers)):  # the last of hidden_states may have the norm in it
        assert torch.equal(found[number - 1], output.hidden_states[number][:, 0])
    return torch.stack(found, dim=1)


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_class_tokens_of_any_block_are_those_of_transformers_at_every_cut(
    directory: Path, kind: str, cut: int
) -> None:
    """Blocks above the cut too, the highest of which is computed for the class token alone."""
    images, backbone = random_images(3, 32), load_backbone(directory)
    expected = transformers_class_tokens(directory, kind, images)
    plain = Trunk(backbone, cut)(images)
    for blocks in ((1,), (2,), (3,), (1, 2), (1, 3), (2, 3), (1, 2, 3), ()):
        tokens, class_tokens = Trunk(backbone, cut, class_blocks=blocks).latents(images)
        wanted = expected[:, [number - 1 for number in blocks]]
        assert class_tokens.shape == (3, len(blocks), 32)
        torch.testing.assert_close(class_tokens, wanted, rtol=1e-5, atol=1e-5)
        assert torch.equal(tokens, plain), "the tokens at the cut are the same with and without"


def test_class_tokens_are_exact_in_float64(directory: Path, kind: str) -> None:
    images, backbone = random_images(2, 32), load_backbone(directory)
    backbone.model.double()
    expected = transformers_class_tokens(directory, kind, images, torch.float64)
    for cut in range(4):
        trunk = Trunk(backbone, cut, class_blocks=(1, 2, 3), out_dtype=torch.float64)
        torch.testing.assert_close(trunk.latents(images)[1], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_class_tokens_of_a_coarser_trunk_are_near(directories: dict[str, Path], precision: str) -> None:
    images, backbone = random_images(5, 32), load_backbone(directories["vit"])
    for cut in range(4):
        exact = Trunk(backbone, cut, class_blocks=(1, 2, 3)).latents(images)[1]
        found = Trunk(backbone, cut, class_blocks=(1, 2, 3), precision=precision).latents(images)[1]  # type: ignore[arg-type]
        assert found.dtype == torch.float32
        assert (found - exact).norm() < 0.05 * exact.norm()


def test_a_network_gives_them_beside_the_tokens_and_of_no_images_too(directories: dict[str, Path]) -> None:
    network = Network(load_backbone(directories["vit"]), cut=1, class_tokens=(1, 10**9))
    for num in (2, 0):
        latents = network.encode(random_images(num, 32))
        assert latents.tokens_NTD.shape == (num, 17, 32) and latents.class_tokens_NKD.shape == (num, 1, 32)


@pytest.mark.parametrize("blocks", [(0,), (4,), (2, 1), (1, 1), (-1,)])
def test_blocks_that_are_none_are_named(directories: dict[str, Path], blocks: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="ascending numbers of 1 to 3"):
        Trunk(load_backbone(directories["vit"]), 2, class_blocks=blocks)


# -- what identifies a network -------------------------------------------------------------------------------


def test_the_digest_is_the_same_on_any_machine_in_any_precision_and_place(
    directories: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = opened(directories["vit"])
    copy = shutil.copytree(directories["vit"], tmp_path / "copy")
    for precision in PRECISIONS:
        other = opened(copy, precision, cut=1)
        other.encode(random_images(1, 32))
        assert (other.digest, other.traits) == (network.digest, network.traits)
    monkeypatch.setattr("vitlr.vit.compute.precision.has_bfloat16", lambda device: False)
    torch.set_num_threads(2)
    assert opened(copy, "auto").digest == network.digest


def test_the_digest_of_weights_published_in_bfloat16_is_that_of_the_same_numbers_in_float32(
    tmp_path: Path,
) -> None:
    from transformers import ViTModel

    make_directory(tmp_path / "half", "vit")
    model = ViTModel.from_pretrained(tmp_path / "half", add_pooling_layer=False)
    model.bfloat16().save_pretrained(tmp_path / "half")
    shutil.copytree(tmp_path / "half", tmp_path / "full")
    model.float().save_pretrained(tmp_path / "full")
    half, full = opened(tmp_path / "half"), opened(tmp_path / "full")
    assert half.digest == full.digest


def test_another_weight_normalisation_or_trait_is_another_network(
    directories: dict[str, Path], tmp_path: Path
) -> None:
    network = opened(directories["vit"])
    for number, (file, change) in enumerate(
        [
            ("preprocessor_config.json", {"image_mean": [0.4, 0.5, 0.61]}),
            ("config.json", {"num_attention_heads": 2}),
            ("config.json", {"layer_norm_eps": 1e-5}),
        ]
    ):
        other = shutil.copytree(directories["vit"], tmp_path / str(number))
        content = json.loads((other / file).read_text())
        (other / file).write_text(json.dumps(content | change))
        found = opened(other)
        assert (found.digest, found.traits) != (network.digest, network.traits)
    changed = opened(directories["vit"])
    with torch.no_grad():
        next(changed.backbone.model.parameters()).view(-1)[0].add_(1e-6)
    assert changed.digest != network.digest


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_stored_network_comes_back_with_its_bits_digest_and_traits(
    directory: Path, tmp_path: Path, precision: str
) -> None:
    network, images = opened(directory, precision, cut=2, image_size=48, blocks=2), random_images(3, 48)
    with locked(tmp_path):
        network.store(tmp_path)
        (stored,) = tmp_path.glob("backbone-*.safetensors")
        first = stored.stat().st_mtime_ns
        network.store(tmp_path)
        assert stored.stat().st_mtime_ns == first, "what is there already is not written again"
    back = Network.restore(tmp_path, network.digest, "again", cut=2, compute=resolved("cpu", precision))
    assert (back.digest, back.traits, back.cut, back.name) == (network.digest, network.traits, 2, "again")
    assert torch.equal(back.encode(images).tokens_NTD, network.encode(images).tokens_NTD)
    tokens = network.encode(images).tokens_NTD
    assert torch.equal(back.new_head()(tokens), network.new_head()(tokens))


def test_a_stored_network_that_is_damaged_missing_or_another_is_refused(
    directories: dict[str, Path], tmp_path: Path
) -> None:
    network, compute = opened(directories["vit"]), Compute(torch.device("cpu"), "float32")

    def restore(digest: str = network.digest) -> Network:
        return Network.restore(tmp_path, digest, "again", cut=2, compute=compute)

    with pytest.raises(RunError, match="is missing"):
        restore()
    network.store(tmp_path)
    (stored,) = tmp_path.glob("backbone-*.safetensors")
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-3] + b"\0\1\2")
    with pytest.raises(RunError, match="checksum"):
        restore()
    network.store(tmp_path)
    assert stored.read_bytes() == whole, "one that is damaged is written again"
    tensors, plain = load_state(tmp_path, kind="backbone", version=1, name=stored.stem)
    tensors["layernorm.bias"] = tensors["layernorm.bias"] + 1
    save_state(tmp_path, tensors, plain, kind="backbone", version=1, name=stored.stem)
    with pytest.raises(RunError, match="another network"):
        restore()
    for digest in ("../../etc/passwd", "0" * 63, ""):
        with pytest.raises(RunError, match="not a SHA-256"):
            restore(digest)


def test_only_stored_networks_that_are_not_kept_are_discarded(
    directories: dict[str, Path], tmp_path: Path
) -> None:
    one, other = opened(directories["vit"]), opened(directories["vit"], image_size=16)
    (tmp_path / "backbone-mine.safetensors").write_text("mine")
    one.store(tmp_path)
    other.store(tmp_path)
    assert len(list(tmp_path.glob("backbone-*"))) == 3
    Network.discard(tmp_path, keep=one.digest)
    assert {path.name for path in tmp_path.glob("backbone-*")} == {
        f"backbone-{one.digest[:16]}.safetensors",
        "backbone-mine.safetensors",
    }
    Network.discard(tmp_path, keep=None)
    assert [path.name for path in tmp_path.glob("backbone-*")] == ["backbone-mine.safetensors"]


def test_heads_are_copies_that_can_be_trained_on_their_own(directories: dict[str, Path]) -> None:
    network = opened(directories["vit"], cut=1)
    head, tokens = network.new_head(), network.encode(random_images(2, 32)).tokens_NTD
    before = network.new_head()(tokens)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(1)
    assert torch.equal(network.new_head()(tokens), before) and not torch.equal(head(tokens), before)


def test_files_that_change_between_opening_and_loading_are_noticed(
    directories: dict[str, Path], tmp_path: Path
) -> None:
    directory = shutil.copytree(directories["vit"], tmp_path / "vit")
    Image.fromarray(random_images(1, 32)[0].numpy()).save(tmp_path / "0.png")
    config = BackboneConfig(name=str(directory), precision="float32", cache=str(tmp_path / "cache"))
    first = Network.open(config, cached=True)
    Encoder(first, stream=True)([str(tmp_path / "0.png")])
    first.keep()
    network = Network.open(config, cached=True)
    assert not network.trunk_is_loaded
    make_directory(directory, "vit", num_attention_heads=2)
    with pytest.raises(BackboneError, match="its files have changed"):
        network.encode(random_images(1, 32))


# -- what can change a latent ----------------------------------------------------------------------------------

_EDITS = """
import json, re, sys
from pathlib import Path

from vitlr.latents import identity

root = Path(identity.__file__).parents[1]
assert str(root).startswith(sys.argv[1]), root


def digest():
    identity._code_digest.cache_clear()
    return identity.trunk_identity(
        "random:Ti_32", blocks=1, image_size=32, cut=1, precision="float32", batch_size=4
    )


QUOTES = 3 * '"'
EDITS = {
    "comment": lambda text: text + "\\n# a comment\\n",
    "layout": lambda text: text.replace("\\n", "\\n\\n", 1) + "\\n\\n",
    "docstrings": lambda text: re.sub(f"(?m)^( *{QUOTES})", r"\\1Changed. ", text, count=1).replace(
        f"    {QUOTES}", f"    {QUOTES}Changed. ", 1
    ),
    "statement": lambda text: text + "\\nX = 1\\n",
    "number": lambda text: re.sub(r"(?m)^(\\w+ = )(\\d+)", r"\\g<1>1\\2", text, count=1),
}


def after(name, kind):
    file = root / name
    content = file.read_text("utf-8")
    edited = EDITS[kind](content)
    assert edited != content, (name, kind)
    file.write_text(edited, "utf-8")
    found = digest()
    file.write_text(content, "utf-8")
    return found != first


first = digest()
print(json.dumps([after(*edit) for edit in json.loads(sys.argv[2])]))
"""


def test_only_statements_that_compute_latents_change_their_identity(tmp_path: Path) -> None:
    """In a copy of the package, each edit on its own."""
    copy = shutil.copytree(SOURCE, tmp_path / "vitlr", ignore=shutil.ignore_patterns("__pycache__", "assets"))
    nothing = [
        *(("vit/compute/cut.py", kind) for kind in ("comment", "layout", "docstrings")),
        *(
            (f"vit/{name}.py", "statement")
            for name in ("exports/huggingface", "exports/card", "views/rollout")
        ),
        *(
            (f"{name}.py", "statement")
            for name in ("latents/cache", "learning/gradient", "runs/train", "errors")
        ),
    ]
    something = [
        *(
            (f"vit/compute/{name}.py", "statement")
            for name in ("cut", "whole_block", "class_token", "products")
        ),
        *((f"vit/{name}.py", "statement") for name in ("backbone", "source", "families/dinov2")),
        *((f"data/{name}.py", "statement") for name in ("images", "decoding", "pixels")),
        ("device.py", "statement"),
        ("vit/compute/int8.py", "number"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", _EDITS, str(tmp_path), json.dumps([*nothing, *something])],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": str(tmp_path), "PATH": "", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    changed = json.loads(done.stdout)
    for edit, has in zip(nothing + something, changed, strict=True):
        assert has == (edit in something), edit
    assert copy.is_dir()


def test_a_listed_module_that_was_renamed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_COMPUTING", (*identity._COMPUTING, "vitlr.data.renamed"))
    with pytest.raises(ImportError, match=r"vitlr\.data\.renamed"):
        identity.computing_modules()


def imported_by(name: str) -> set[str]:
    """Modules of the package that a module imports, at its top or inside a function."""
    spec = find_spec(name)
    assert spec is not None and spec.origin is not None
    found = set()
    for node in ast.walk(ast.parse(Path(spec.origin).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = str(node.module).startswith("vitlr") and find_spec_or_none(inner) is not None
                found.add(inner if is_module else str(node.module))
    return {each for each in found if each.split(".")[0] == "vitlr"}


def find_spec_or_none(name: str) -> object:
    try:
        return find_spec(name)
    except ModuleNotFoundError:  # a name of a module, not a module
        return None


def test_all_code_between_a_file_and_its_latent_is_listed() -> None:
    """Whatever those modules import from the package, and so on, computed from the import graph."""
    # They find files, name things and refuse what cannot be used: no pixel is made in them.
    finding = {
        "experience",
        "files",
        "formats",
        "hub",
        "layout",
        "left_out",
        "names",
        "rows",
        "sequences",
        "signatures",
    }
    harmless = {
        "vitlr",
        "vitlr.text",
        "vitlr.data",
        "vitlr.errors",
        "vitlr.storage",
        "vitlr.storage.reading",
        "vitlr.vit.inspection",
    }
    harmless |= {f"vitlr.data.{name}" for name in finding}
    listed = set(identity.computing_modules())
    compute = {f"vitlr.vit.compute.{path.stem}" for path in (SOURCE / "vit" / "compute").glob("*.py")}
    waiting = {"vitlr.vit.backbone", "vitlr.data.images", *compute} - {"vitlr.vit.compute.__init__"}
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting |= imported_by(name) - reached
    assert len(reached) > 15
    assert reached - listed <= harmless
