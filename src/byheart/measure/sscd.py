"""SSCD, the field's copy-detection descriptor (Pizzi et al. 2022), from weights the user gives.

A ResNet-50 trunk, generalized-mean pooling, a linear layer to 512 numbers, length 1. The weights
are their authors' and no part of this package: github.com/facebookresearch/sscd-copy-detection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ResNetConfig, ResNetModel

from byheart.measure.torchscript import tensors_of_torchscript
from byheart.runtime.errors import short

SIDE = 288  # pixels; SSCD's README
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as the same README asks
POWER, FLOOR = 3, 1e-6  # of the pooling
DEPTHS = (3, 4, 6, 3)  # blocks in each stage of a ResNet-50

CONVERT = (
    'python -c "import torch, safetensors.torch as s; s.save_file({{k: v.contiguous() for k, v in '
    "torch.load('{old}', weights_only=True).items()}}, '{new}')\""
)

ALLOWED = "the weights of a ResNet-50 SSCD are needed, such as sscd_disc_mixup"


Descriptor = Callable[[UInt8[Tensor, "k 3 w w"]], Float[Tensor, "k d"]]  # d: 512 of SSCD


def load_sscd(path: str) -> Descriptor:
    """A function from 8-bit images to descriptors of length 1.

    It takes one image at a time: a descriptor must not depend on the images beside it.

    path: a .safetensors file with the names of `sscd_disc_mixup.torchvision.pt`, or of its twin
        `.classy.pt`, or the `.torchscript.pt`, of which the tensors are read and nothing is run;
        the other ResNet-50 models of the same table fit as well. Or an .onnx file with any network
        that makes a vector of a picture prepared as SSCD asks: ONNX names operations that
        onnxruntime has, and brings no code.

    ValueError: another kind of file, or weights that are not a ResNet-50 SSCD's.
    """
    if path.endswith(".onnx"):
        return _load_onnx(path)
    weights = _read(path)
    # Without memory and without drawing random numbers: every value comes from the file.
    with torch.device("meta"):
        config = ResNetConfig(depths=list(DEPTHS))
        model = nn.ModuleDict({"trunk": ResNetModel(config), "linear": nn.Linear(2048, 512)})
    model.load_state_dict(_matched(weights, model.state_dict(), path), assign=True)
    model.eval()

    @torch.no_grad()
    def embed(images: UInt8[Tensor, "k 3 w w"]) -> Float[Tensor, "k 512"]:
        return torch.cat([_descriptor(model, image) for image in images])

    return embed


def _load_onnx(path: str) -> Descriptor:
    try:
        import onnxruntime
    except ImportError:
        raise ValueError(f'{path}: for ONNX type: pip install "byheart[onnx]"') from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        network = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no other class
        raise ValueError(f"{path}: no ONNX network can be read there ({short(error)})") from error
    takes, gives = network.get_inputs(), network.get_outputs()
    shapes = [one.shape for one in (*takes, *gives)]
    if len(takes) != 1 or [len(shape) for shape in shapes] != [4, 2] or shapes[0][1] != 3:
        raise ValueError(f"{path}: from {shapes[0]} to {shapes[-1]}; a network from [n, 3, side, "
                         "side] to [n, numbers] is needed")  # fmt: skip
    side = shapes[0][2] if isinstance(shapes[0][2], int) else SIDE

    def embed(images: UInt8[Tensor, "k 3 w w"]) -> Float[Tensor, "k d"]:
        rows = [network.run(None, {takes[0].name: _prepared(image, side).numpy()})[0]
                for image in images]  # fmt: skip
        return F.normalize(torch.from_numpy(np.concatenate(rows)))

    return embed


def _prepared(image: UInt8[Tensor, "3 w w"], side: int = SIDE) -> Float[Tensor, "1 3 v v"]:
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    # Pillow's own filter on 8-bit values is what the README's transforms come to.
    pixels = np.array(picture.resize((side, side), Image.Resampling.BILINEAR))
    x = (torch.from_numpy(pixels).float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    return x.permute(2, 0, 1)[None]


def _descriptor(model: nn.ModuleDict, image: UInt8[Tensor, "3 w w"]) -> Float[Tensor, "1 512"]:
    x = model["trunk"](pixel_values=_prepared(image)).last_hidden_state  # 1 2048 9 9
    pooled = x.clamp(min=FLOOR).pow(POWER).mean((2, 3)).pow(1 / POWER)
    return F.normalize(model["linear"](pooled))


def _read(path: str) -> dict[str, Tensor]:
    if path.endswith(".safetensors"):
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            said = f"no SSCD weights can be read there ({short(error)})"
            raise ValueError(f"{path}: {said}") from error
    if found := tensors_of_torchscript(path):
        return found
    # A .pt file is a pickle, which can run any program.
    old = path if path.endswith(".pt") else "sscd_disc_mixup.torchvision.pt"
    command = CONVERT.format(old=old, new=old.removesuffix(".pt") + ".safetensors")
    raise ValueError(
        f"{path}: SSCD weights are read from .safetensors, .onnx, and the .torchscript.pt, "
        f"which is not run; convert the .torchvision.pt file once: {command}"
    )


def _matched(weights: dict[str, Tensor], wanted: dict[str, Tensor], path: str) -> dict[str, Tensor]:
    """The file's weights under the model's names: every one of them and nothing else."""
    classy = "embeddings.1.weight" in weights
    published = {own: by_classy if classy else plain for own, plain, by_classy in _layers()}
    theirs = {}
    for name in wanted:
        layer, _, part = name.rpartition(".")
        theirs[name] = f"{published[layer]}.{part}"
    # How many batches a normalization saw in training plays no part in what it computes.
    counts = {name for name in wanted if name.endswith("num_batches_tracked")}
    for name in wanted:
        if name not in counts and theirs[name] not in weights:
            raise ValueError(f"{path}: no {theirs[name]}; {ALLOWED}")
    for name in sorted(weights.keys() - set(theirs.values())):
        raise ValueError(f"{path}: {name} is not one of its weights; {ALLOWED}")
    found = {}
    for name, tensor in wanted.items():
        given = torch.tensor(0) if name in counts else weights[theirs[name]].float()
        if given.shape != tensor.shape:
            sizes = f"{tuple(given.shape)} in place of {tuple(tensor.shape)}"
            raise ValueError(f"{path}: {theirs[name]} is {sizes}; {ALLOWED}")
        found[name] = given
    return found


def _layers() -> Iterator[tuple[str, str, str]]:
    """Every layer with weights: our name, torchvision's and Classy Vision's."""
    stem = "trunk.embedder.embedder"
    yield f"{stem}.convolution", "backbone.conv1", "backbone.initial_block._module.0"
    yield f"{stem}.normalization", "backbone.bn1", "backbone.initial_block._module.1"
    for stage, depth in enumerate(DEPTHS):
        for block in range(depth):
            own = f"trunk.encoder.stages.{stage}.layers.{block}"
            plain = f"backbone.layer{stage + 1}.{block}"
            classy = f"backbone.blocks.{stage}.block{stage}-{block}"
            inner = f"{classy}.convolutional_block"  # convolution, normalization, ReLU; twice
            for k in range(3):
                last = f"{classy}.bn" if k == 2 else f"{inner}.{3 * k + 1}"
                yield f"{own}.layer.{k}.convolution", f"{plain}.conv{k + 1}", f"{inner}.{3 * k}"
                yield f"{own}.layer.{k}.normalization", f"{plain}.bn{k + 1}", last
            if block == 0:
                for k, kind in enumerate(("convolution", "normalization")):
                    theirs = f"downsample.{k}"
                    yield f"{own}.shortcut.{kind}", f"{plain}.{theirs}", f"{classy}.{theirs}"
    yield "linear", "backbone.fc", "embeddings.1"
