"""SSCD beside a ResNet-50 written out in plain functions, with random weights."""

from __future__ import annotations

import math
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from byheart.measure.sscd import load_sscd

STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))  # blocks, inner channels


def shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """torchvision's resnet50 with 512 outputs, below `backbone.`."""

    def normalization(name: str, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        for part in ("weight", "bias", "running_mean", "running_var"):
            yield f"{name}.{part}", (channels,)
        yield f"{name}.num_batches_tracked", ()

    yield "backbone.conv1.weight", (64, 3, 7, 7)
    yield from normalization("backbone.bn1", 64)
    into = 64
    for stage, (blocks, inner) in enumerate(STAGES, 1):
        for block in range(blocks):
            name = f"backbone.layer{stage}.{block}"
            sizes = ((inner, into, 1, 1), (inner, inner, 3, 3), (4 * inner, inner, 1, 1))
            for k, size in enumerate(sizes, 1):
                yield f"{name}.conv{k}.weight", size
                yield from normalization(f"{name}.bn{k}", size[0])
            if block == 0:
                yield f"{name}.downsample.0.weight", (4 * inner, into, 1, 1)
                yield from normalization(f"{name}.downsample.1", 4 * inner)
            into = 4 * inner
    yield "backbone.fc.weight", (512, 2048)
    yield "backbone.fc.bias", (512,)


def random_weights() -> dict[str, Tensor]:
    """No two parts of a layer are alike, so a swap shows; variances keep the values in range."""
    draws = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in shapes():
        values = torch.randn(shape, generator=draws)
        if len(shape) > 1:
            values *= (2 / math.prod(shape[1:])) ** 0.5
        elif name.endswith(("running_var", "weight")):
            values = 0.5 + values.abs() / 2
        elif name.endswith("num_batches_tracked"):
            values = torch.tensor(1000)
        else:
            values *= 0.3
        weights[name] = values
    return weights


def by_hand(weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """The descriptor of 8-bit images, from functions alone."""

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = weights[f"backbone.{name}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def norm(x: Tensor, name: str) -> Tensor:
        parts = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(weights[f"backbone.{name}.{part}"] for part in parts))

    x = F.interpolate(images.float(), size=(288, 288), mode="bilinear").round() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (x - mean[:, None, None]) / std[:, None, None]
    x = F.max_pool2d(F.relu(norm(conv(x, "conv1", 2), "bn1")), 3, 2, 1)
    for stage, (blocks, _) in enumerate(STAGES, 1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = F.relu(norm(conv(x, f"{name}.conv1"), f"{name}.bn1"))
            y = F.relu(norm(conv(y, f"{name}.conv2", stride), f"{name}.bn2"))
            y = norm(conv(y, f"{name}.conv3"), f"{name}.bn3")
            if block == 0:
                x = norm(conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
            x = F.relu(x + y)
    assert x.shape[1:] == (2048, 9, 9)
    pooled = (x.clamp(min=1e-6) ** 3).mean((2, 3)) ** (1 / 3)
    out = F.linear(pooled, weights["backbone.fc.weight"], weights["backbone.fc.bias"])
    return out / out.norm(dim=1, keepdim=True)


def classy(name: str) -> str:
    """Classy Vision's name for torchvision's."""
    name = re.sub(r"^backbone\.conv1\.", "backbone.initial_block._module.0.", name)
    name = re.sub(r"^backbone\.bn1\.", "backbone.initial_block._module.1.", name)
    name = re.sub(r"^backbone\.fc\.", "embeddings.1.", name)
    found = re.match(r"backbone\.layer(\d)\.(\d)\.(.*)", name)
    if found is None:
        return name
    stage, block, rest = int(found[1]) - 1, found[2], found[3]
    places = {"conv1": "0", "bn1": "1", "conv2": "3", "bn2": "4", "conv3": "6"}
    layer, _, part = rest.partition(".")
    inner = f"convolutional_block.{places[layer]}" if layer in places else layer
    return (
        f"backbone.blocks.{stage}.block{stage}-{block}.{'bn' if layer == 'bn3' else inner}.{part}"
    )


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return random_weights()


@pytest.fixture(scope="module")
def images() -> Tensor:
    draws = torch.Generator().manual_seed(1)
    noise = torch.randint(0, 256, (2, 3, 16, 16), generator=draws, dtype=torch.uint8)
    noise[0] //= 4
    noise[1, 0] //= 2
    return noise


@pytest.fixture(scope="module")
def descriptors(
    weights: dict[str, Tensor], images: Tensor, tmp_path_factory: pytest.TempPathFactory
) -> Tensor:
    file = tmp_path_factory.mktemp("sscd") / "weights.safetensors"
    save_file(weights, file)
    before = torch.get_rng_state()
    embed = load_sscd(str(file))
    assert torch.equal(torch.get_rng_state(), before), "loading drew random numbers"
    return embed(images)


def test_the_descriptor_is_that_of_a_resnet_written_out(
    weights: dict[str, Tensor], images: Tensor, descriptors: Tensor
) -> None:
    expected = by_hand(weights, images)
    assert descriptors.shape == (2, 512) and not descriptors.requires_grad
    # The README's other size, another filter or ImageNet's colours swapped move it by 1e-3 or more.
    assert (descriptors - expected).abs().max() < 3e-4
    assert descriptors.norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-6)
    assert (descriptors[0] - descriptors[1]).abs().max() > 0.01


def test_classy_visions_names_mean_the_same_and_images_do_not_mix(
    weights: dict[str, Tensor], images: Tensor, descriptors: Tensor, tmp_path: Path
) -> None:
    renamed = {classy(name): tensor for name, tensor in weights.items()}
    assert len(renamed) == len(weights) and "embeddings.1.bias" in renamed
    counters = [name for name in renamed if name.endswith("num_batches_tracked")]
    for name in counters:  # some converters leave them out
        del renamed[name]
    renamed["embeddings.1.bias"] = renamed["embeddings.1.bias"].double()  # any float will do
    save_file(renamed, tmp_path / "classy.safetensors")
    embed = load_sscd(str(tmp_path / "classy.safetensors"))
    assert torch.equal(embed(images[1:])[0], descriptors[1])


def write_onnx(file: Path, shape: list[object], *, flat: bool = True) -> str:
    """A network that makes of a picture its mean colour."""
    from onnx import TensorProto, checker, helper, save

    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["mean"])]
    nodes += [helper.make_node("Flatten", ["mean"], ["y"])] if flat else []
    said = [shape[0], 3] if flat else [shape[0], 3, 1, 1]
    graph = helper.make_graph(
        nodes,
        "colour",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y" if flat else "mean", TensorProto.FLOAT, said)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    save(model, file)
    return str(file)


@pytest.mark.parametrize("shape", [["n", 3, "h", "w"], [1, 3, 48, 48]])
def test_an_onnx_network_is_given_what_sscd_is_given(
    shape: list[object], images: Tensor, tmp_path: Path
) -> None:
    embed = load_sscd(write_onnx(tmp_path / "colour.onnx", shape))
    # Enlarged by Pillow and rounded, an even picture stays as it is.
    even = torch.stack([images[0, :, 0, 0], images[1, :, 3, 3]])[:, :, None, None].expand(
        2, 3, 9, 9
    )
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = F.normalize((even[:, :, 0, 0] / 255 - mean) / std)
    assert (embed(even.contiguous()) - expected).abs().max() < 3e-4


def test_what_is_no_network_for_pictures_is_said(tmp_path: Path) -> None:
    (tmp_path / "noise.onnx").write_bytes(b"not a graph")
    with pytest.raises(ValueError, match="no ONNX network"):
        load_sscd(str(tmp_path / "noise.onnx"))
    with pytest.raises(ValueError, match="no ONNX network"):
        load_sscd(str(tmp_path / "missing.onnx"))
    with pytest.raises(ValueError, match=r"\[n, 3, side, side\]"):
        load_sscd(write_onnx(tmp_path / "grey.onnx", [1, 3, 48, 48], flat=False))


def tiny() -> dict[str, Tensor]:
    """All the names, none of the sizes."""
    return {name: torch.zeros(1) for name, _ in shapes()}


def refusal(weights: dict[str, Tensor], folder: Path) -> str:
    save_file(weights, folder / "w.safetensors")
    with pytest.raises(ValueError) as caught:
        load_sscd(str(folder / "w.safetensors"))
    assert "\n" not in str(caught.value) and "w.safetensors" in str(caught.value)
    return str(caught.value)


def test_weights_of_another_kind_are_refused_by_name(tmp_path: Path) -> None:
    lacking = tiny()
    del lacking["backbone.layer3.2.bn1.running_var"]
    assert "no backbone.layer3.2.bn1.running_var" in refusal(lacking, tmp_path)
    foreign = refusal({**tiny(), "backbone.layer3.6.conv1.weight": torch.zeros(1)}, tmp_path)
    assert "backbone.layer3.6.conv1.weight is not" in foreign
    assert "backbone.conv1.weight is (1,) in place of (64, 3, 7, 7)" in refusal(tiny(), tmp_path)
    assert "no backbone.conv1.weight" in refusal({"logits": torch.zeros(1)}, tmp_path)
    assert "no backbone.initial_block._module.0.weight" in refusal(
        {"embeddings.1.weight": torch.zeros(1)}, tmp_path
    )


def test_a_pickle_is_refused_with_a_command_that_converts_it(tmp_path: Path) -> None:
    # Turned around, as a converter may leave it: safetensors wants its numbers in order.
    held = {"backbone.fc.weight": torch.arange(6.0).reshape(2, 3).T}
    old = tmp_path / "sscd.torchvision.pt"
    torch.save(held, old)
    with pytest.raises(ValueError, match="convert") as caught:
        load_sscd(str(old))
    assert "\n" not in str(caught.value)
    python, *rest = shlex.split(str(caught.value).partition(" once: ")[2])
    assert python == "python"
    subprocess.run([sys.executable, *rest], check=True)
    converted = load_file(tmp_path / "sscd.torchvision.safetensors")
    assert list(converted) == list(held)
    assert torch.equal(converted["backbone.fc.weight"], held["backbone.fc.weight"])
