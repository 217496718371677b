"""The one set-up: from settings, or from the folder that a run left, to all that is trained,
sampled and measured with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import DDIMScheduler, UNet2DConditionModel
from jaxtyping import Float, Int
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor
from yaml import YAMLError

from byheart.config import Config, read
from byheart.data.codec import Codec, check_side, load_codec
from byheart.data.images import ImageSet, load_images
from byheart.data.pretrained import from_pretrained, weights_from_pretrained
from byheart.data.prompts import Question, check_bank, questions
from byheart.data.sources import PHOTOS
from byheart.data.text import embed, widen
from byheart.measure.copying import STANDARD, Reference
from byheart.measure.distance import nearest
from byheart.measure.kinds import reference
from byheart.model.conditioning import Conditioning, conditioning_for, training_captions
from byheart.model.cpu import optimize_for_cpu
from byheart.model.estimate import choose_threads
from byheart.model.fit import parts_of
from byheart.model.ideal import IdealDenoiser
from byheart.model.objective import build_sampler, build_schedule
from byheart.model.rng import training_seed
from byheart.model.sample import Conditions
from byheart.model.unet import build_unet
from byheart.runtime.errors import short
from byheart.runtime.files import read_measures


@dataclass(frozen=True)
class Setup:
    """What a run works on. All that the network sees lies on its device."""

    config: Config
    images: ImageSet
    reference: Reference  # held-out images, which distances are measured by
    codec: Codec
    latents: Float[Tensor, "n c l l"]  # of the training images
    captions: tuple[str, ...]  # of each training image, as it is trained
    questions: list[Question]  # what the network is asked in the end, unseen prompts first
    texts: tuple[str, ...]  # every prompt once; the first is the empty one
    conditions: Conditions  # schedule, the texts' vectors, shape of a latent
    unet: UNet2DConditionModel  # fresh, or as a finished run left it
    device: torch.device
    sscd: Callable[[Tensor], Tensor] | None = None  # descriptors of a run to be measured with them

    @property
    def conditioning(self) -> Conditioning:
        vectors = self.conditions.prompts
        return conditioning_for(self.config.captions, self.captions, [*self.texts], vectors)

    @property
    def memorizer(self) -> IdealDenoiser:
        """The best denoiser there is of the training images alone."""
        given, schedule = self.conditioning, self.conditions.schedule
        return IdealDenoiser(schedule, self.latents, given.rows, given.of_image)

    @property
    def prompt_of(self) -> Int[Tensor, " s"]:
        """Of each question the row of its prompt in `conditions.prompts`."""
        return torch.tensor([self.texts.index(q.prompt) for q in self.questions])

    @property
    def noise_of(self) -> Int[Tensor, " s"]:
        return torch.tensor([q.noise for q in self.questions])

    @property
    def unseen(self) -> slice:
        """The questions with unseen prompts."""
        return slice(sum(q.condition == "unseen" for q in self.questions))

    @property
    def common(self) -> Float[Tensor, "t d"]:
        """Vectors of the caption that all training images share; of the empty one without such."""
        shared = self.captions[0] if len({*self.captions}) == 1 else ""
        return self.conditions.prompts[self.texts.index(shared)]


def prepare(config: Config, cache: Path, accelerator: Accelerator) -> Setup:
    """From settings, with a fresh network of the run's seed.

    ValueError: what the user can mend. Nothing is written but what the next run may take from
    `cache`.
    """
    check_bank(config)
    sscd = None
    if config.evaluate.sscd:
        from byheart.measure.sscd import load_sscd  # transformers' ResNet: only where asked for

        sscd = load_sscd(config.evaluate.sscd)
    parts_of(config.fit, accelerator)  # refused now, though it is needed only later
    images = load_images(config.images, config.n_images, cache, config.split)
    against = reference_of(images, config, cache)
    codec = load_codec(config.codec, cache)
    check_side(codec, config.images.size, config.unet.factor)
    latents = codec.encode(images.train)
    captions, asked, texts = _texts(config, images)
    vectors = embed([*texts], config.text, cache)
    images = replace(images, notes=images.notes + _alike(captions, texts, vectors, config))
    schedule = build_schedule(config)
    build_sampler(schedule, config.sample.sampler, config.sample.steps)  # refused now as well
    shape, device = (latents.shape[1], latents.shape[2], latents.shape[3]), accelerator.device
    unet = fresh_network(config, shape, vectors.shape[-1], accelerator)
    vectors = widen(vectors, unet.config.cross_attention_dim).to(device)
    conditions = Conditions(schedule, vectors, shape)
    choose_threads(unet, conditions, config, accelerator)
    return Setup(
        config, images, against, codec, latents.to(device), captions, asked, texts, conditions,
        unet, device, sscd,
    )  # fmt: skip


def _alike(
    captions: tuple[str, ...], texts: tuple[str, ...], vectors: Float[Tensor, "p l d"],
    config: Config,
) -> tuple[str, ...]:  # fmt: skip
    """What is to be said of captions that the network cannot tell apart."""
    distinct = [*dict.fromkeys(captions)]
    of = [vectors[texts.index(caption)].numpy().tobytes() for caption in distinct]
    lost = len(of) - len(set(of))
    if not lost:
        return ()
    return (
        f"{lost:,} of {len(distinct):,} captions are like another up to the text encoder's last "
        f"token (text.tokens={config.text.tokens}): the network cannot tell them apart",
    )


def fresh_network(
    config: Config, shape: tuple[int, int, int], text_width: int, accelerator: Accelerator
) -> UNet2DConditionModel:
    """The network of the run's seed on its device. shape: of a latent (c, l, l)."""
    seed = training_seed(config.seed, config.split)
    unet = build_unet(config.unet, shape[0], shape[1], text_width, seed)
    if config.fit.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    return optimize_for_cpu(unet, accelerator.device, accelerator.mixed_precision == "bf16")


def reopen(folder: Path, device: torch.device) -> Setup:
    """What a finished run had in its hands when it sampled, read back from its folder.

    ValueError: it left no model, another version wrote it, or its pictures have changed since.
    """
    config = read_config(folder)
    cache = folder.parent.parent / ".cache"
    images = load_images(config.images, config.n_images, cache, config.split)
    if images.content_hash != read_measures(folder)["images"]["content_hash"]:
        raise ValueError(f"{folder.name}: its training pictures have changed since: run it again")
    captions, asked, texts = _texts(config, images)
    codec, unet, conditions = reopen_network(folder, config, texts, cache, device)
    return Setup(
        config, images, reference_of(images, config, cache), codec, codec.encode(images.train),
        captions, asked, texts, conditions, unet, device,
    )  # fmt: skip


def reopen_network(
    folder: Path, config: Config, texts: tuple[str, ...], cache: Path, device: torch.device | str
) -> tuple[Codec, UNet2DConditionModel, Conditions]:
    """Codec, network in eval mode and conditions of a finished run, without its pictures."""
    codec, model = load_codec(config.codec, cache), str(folder / "model")
    unet = weights_from_pretrained(UNet2DConditionModel, model, part="unet").float().eval()
    schedule = from_pretrained(DDIMScheduler, model, part="scheduler")
    vectors = widen(embed([*texts], config.text, cache), unet.config.cross_attention_dim)
    side = config.images.size // codec.factor
    shape = (codec.channels, side, side)
    return codec, unet.to(device), Conditions(schedule, vectors.to(device), shape)


def read_config(folder: Path) -> Config:
    """config.yaml of a run, checked. ValueError: missing, damaged, or of another version.

    Settings that version 0.1 did not have yet are filled in.
    """
    try:
        recorded = OmegaConf.load(folder / "config.yaml")
        evaluate = {"possible": 0, "rule": asdict(STANDARD)}
        since = OmegaConf.create(
            {"images": {"style": None}, "evaluate": evaluate,
             "fit": {"gradient_checkpointing": False}}
        )  # fmt: skip
        merged = OmegaConf.merge(OmegaConf.structured(Config), since, recorded)
        assert isinstance(merged, DictConfig)
        return read(merged)
    except (OSError, OmegaConfBaseException, YAMLError, ValueError) as error:
        raise ValueError(
            f"{folder}/config.yaml cannot be read ({short(error)}): another version of byheart or "
            "another program left it; run it again"
        ) from error


def reference_of(images: ImageSet, config: Config, cache: Path) -> Reference:
    """The source's held-out images; where there are fewer than two, the embedded photographs."""
    if len(images.held_out) >= 2:
        words = f"{len(images.held_out)} held-out images of the same source"
        return reference(images.held_out, words, config.evaluate.rule)
    photos = replace(
        config.images, source="photos", seed=0, held_out=0.0, near_duplicate=0.0, path=None,
        repo=None, unreadable="refuse",
    )  # fmt: skip
    pictures = load_images(photos, len(PHOTOS), cache).train
    # A photograph that is trained on is no reference for its own copies.
    pictures = pictures[nearest(pictures, images.train).rmse > 0]
    if len(pictures) < 2:
        raise ValueError(
            f"n_images={config.n_images} leaves no pictures to compare with: "
            "type images.held_out=2 and a smaller n_images"
        )
    words = "embedded photographs, since fewer than two images are held out"
    return reference(pictures, f"{len(pictures)} {words}", config.evaluate.rule)


def _texts(
    config: Config, images: ImageSet
) -> tuple[tuple[str, ...], list[Question], tuple[str, ...]]:
    """The training captions, the questions, and every prompt among them once."""
    captions = training_captions(config.captions, images.train_captions)
    asked = questions(config, captions)
    return captions, asked, tuple(dict.fromkeys(["", *captions, *(q.prompt for q in asked)]))
