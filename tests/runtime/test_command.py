"""The command line: what is right reaches the task, what is wrong gets one helpful line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from support.composing import CONFIGS
from support.launching import type_here

from byheart.config import Config
from byheart.config import settings as declared
from byheart.runtime import command
from byheart.runtime.command import help_text


def type_(*words: str, **environment: str) -> tuple[int, str, list[Config]]:
    """Exit code, what stands on standard error, and the configurations the task was given."""
    seen: list[Config] = []
    return *type_here(seen.append, *words, **environment), seen


def test_what_is_right_reaches_the_task_once() -> None:
    code, error, (config,) = type_(
        "n_images=3", "fit.lr=0.5", "unet=small", "captions.shared='a, b'",
        "evaluate.rule.reach=0.25", "schedule=sd", "fit.prediction=epsilon",
    )  # fmt: skip
    assert (code, error) == (0, "")
    assert (config.n_images, config.fit.lr, config.unet.preset) == (3, 0.5, "small")
    assert (config.captions.shared, config.evaluate.rule.reach) == ("a, b", 0.25)
    assert config.fit.prediction == "epsilon"  # where the schedule keeps some of the image


def test_the_help_names_every_setting_as_it_is_typed() -> None:
    named = {line.split("=")[0].strip() for line in help_text(CONFIGS).splitlines()}
    assert named >= {*declared()}


def test_hydra_shows_the_settings_without_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert type_("--cfg", "job", "n_images=3") == (0, "", [])
    assert yaml.safe_load(capsys.readouterr().out)["n_images"] == 3


# Each: what is typed, then what the one line must hold: the setting, and what is allowed.
MISTAKES: list[tuple[str, ...]] = [
    # a name that is none
    ("fit.lrr=1", "fit.lrr", "did you mean fit.lr?"),
    ("lr=0.1", "lr:", "did you mean fit.lr?"),
    ("image=photos", "image:", "did you mean images?"),
    ("qwertz=1", "qwertz:", "--help"),
    ("steps=5", "steps:", "schedule.steps or budget.steps or sample.steps?"),
    ("unet@x=tiny", "unet@x=tiny", "type unet="),
    ("fit={lrr: 1}", "fit:", "fit.batch"),
    ("n_images.x=1", "n_images.x", "--help"),
    # Hydra's prefixes
    ("+fit.lrr=1", "fit.lrr", "did you mean fit.lr?"),
    ("+n_images=2", "+n_images=2", "type n_images="),
    ("~n_images", "~n_images", "type n_images="),
    ("~nothing", "nothing", "--help"),
    # the wrong type
    ("n_images=abc", "n_images", "abc", "whole number"),
    ("n_images=1.5", "n_images", "1.5", "whole number"),
    ("n_images=null", "n_images=null", "whole number"),
    ("n_images=???", "n_images=???", "whole number"),
    ("n_images=", "n_images", "whole number"),
    ("n_images=true", "n_images", "whole number"),
    ("fit.lr=fast", "fit.lr", "fast", "a number"),
    ("fit.betas=[a,b]", "fit.betas", "a list of numbers"),
    ("unet.zero_init=perhaps", "unet.zero_init", "true or false"),
    ("unet.widths={a: 1}", "unet.widths", "a list of whole numbers"),
    ("fit=3", "fit:", "fit.batch"),
    ("images=null", "images=null", "emoji"),
    # outside its range
    ("n_images=0", "n_images=0", "1 or more"),
    ("fit.lr=inf", "fit.lr=inf", "above 0"),
    ("fit.lr=0", "fit.lr=0", "above 0"),
    ("fit.clip=1e400", "fit.clip=inf", "0 or more"),
    ("live.share=-1", "live.share=-1", "from 0 to 1"),
    ("unet.cross_attention_dim=0", "unet.cross_attention_dim=0", "1 or more", "or null"),
    ("images.source=cats", "images.source=cats", "emoji | avatars | photos | folder | hub"),
    ("fit.lr=nan", "fit.lr=nan", "above 0"),
    ("captions.dropout=1.5", "captions.dropout=1.5", "from 0 to 1"),
    ("captions.shared=", "captions.shared", "one line of text"),
    ("threads=two", "threads=two", "auto | a whole number"),
    ("threads=null", "threads=null", "auto | a whole number"),
    # a choice that is none
    ("images=cats", "images=cats", "emoji", "photos", "folder", "hub"),
    ("unet=huge", "unet=huge", "tiny", "small", "sd15", "sd21"),
    ("experiment=moon", "experiment=moon", "gpu"),
    ("unet=[tiny,small]", "unet=", "tiny"),
    ("fit.prediction=noise", "fit.prediction=noise", "auto | sample | v_prediction | epsilon"),
    # where runs are started
    ("hydra/launcher=moon", "hydra/launcher=moon", "basic | ray | submitit_local | submitit_slurm"),
    ("hydra/launcher=ray", "hydra/launcher=ray", "add it", "-m"),
    ("cluster=ray", "cluster=ray", "-m"),
    ("cluster=moon", "cluster=moon", "ray | slurm"),
    ("cluster=ray,slurm", "cluster=ray,slurm", "one of them"),
    # what does not go together
    ("budget.exposures=5", "budget.exposures=5", "exactly one"),
    ("budget.steps=null", "budget.steps=None budget.exposures=None", "exactly one"),
    ("images.size=65", "images.size=65", "64 or 128"),
    ("fit.prediction=epsilon", "fit.prediction=epsilon", "schedule=sd"),
    ("sample.steps=1001", "sample.steps=1001", "schedule.steps=1000"),
    ("unet.widths=[32,64]", "unet.widths=[32, 64]", "two to four"),
    ("fit.ema=0", "fit.ema=0", "evaluate.weights=raw"),
    ("images=folder", "images=folder", "images.path="),
    ("images=hub", "images=hub", "images.repo="),
    ("codec=sd_vae", "codec=sd_vae", "codec.path="),
    ("text=clip", "text=clip", "text.path="),
    # a folder that leads elsewhere
    ("name=a/b", "name=a/b", "a folder name", "'/'"),
    ("name=..", "name=..", "folder name"),
    ("name=.cache", "name=.cache", "leading dot"),
    ("run=a\\\\b", "run=a", "folder name"),
    ("name=", "name=", "folder name"),
    ("name=" + "x" * 300, "name=xxx", "200 bytes"),
    # no setting=value at all
    ("n_images", "n_images", "setting=value"),
    ("n_images=[", "n_images=[", "setting=value"),
    ("=3", "=3", "setting=value"),
    ("", "setting=value"),
    ("captions.shared=a: b {", "captions.shared=a: b {", "setting=value"),
    ("n_images=1,2", "n_images=1,2", "-m"),
    ("n_images=range(1,3)", "n_images=range(1,3)", "-m"),
    ("n_images=nofunction(1)", "n_images=nofunction(1)", "setting=value"),
    ("--n_images=3", "--n_images=3", "type n_images=3"),
    ("-n", "-n", "--help"),
    # values taken from elsewhere
    ("name=${nope}", "name", "nope"),
    ("name=${name}", "name"),
    ("n_images=${fit.lr}", "n_images", "Integer"),
    ("name=${oc.env:BYHEART_NO_SUCH}", "name", "BYHEART_NO_SUCH"),
    ("name=${", "name=${", "setting=value"),
    # a line break does not make a second line
    ("name='a\nb'", "name=a b", "folder name"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: repr(mistake[0])[1:40])
def test_a_mistake_gets_one_line_that_says_what_is_allowed(mistake: tuple[str, ...]) -> None:
    typed, *parts = mistake
    code, error, seen = type_(typed)
    assert code == 2 and seen == []
    assert error.startswith("byheart: ") and error.endswith("\n") and error.count("\n") == 1
    assert "Traceback" not in error and len(error) < 500
    for part in parts:
        assert part in error


TOGETHER = [
    (["schedule=sd", "unet.pretrained=x"], ["schedule=sd", "unet.pretrained", "schedule=auto"]),
    (
        ["fit.prediction=sample", "unet.pretrained=x"],
        ["fit.prediction=sample", "unet.pretrained", "fit.prediction=auto"],
    ),
    (["images=folder", "images.path="], ["images=folder", "images.path="]),
    (["schedule=sd", "schedule.zero_terminal_snr=true", "fit.prediction=epsilon"], ["epsilon"]),
    (["codec.patch=64", "images.size=1000"], ["images.size=1000", "512 or 1024"]),
]


@pytest.mark.parametrize(("typed", "parts"), TOGETHER, ids=lambda words: " ".join(words)[:40])
def test_so_do_mistakes_made_of_several_settings(typed: list[str], parts: list[str]) -> None:
    code, error, seen = type_(*typed)
    assert code == 2 and seen == [] and error.count("\n") == 1
    for part in parts:
        assert part in error


# ---------------------------------------------------------------------------- what a task raises


def test_a_value_error_of_the_task_is_the_users_and_any_other_is_ours() -> None:
    def mistaken(config: Config) -> None:
        raise ValueError("the folder is full:\n  type root=…")

    def broken(config: Config) -> None:
        raise RuntimeError("a fault of ours")

    assert type_here(mistaken) == (2, "byheart: the folder is full: type root=…\n")
    with pytest.raises(RuntimeError, match="a fault of ours"):
        type_here(broken)


def test_only_the_first_process_speaks() -> None:
    assert type_("n_images=0", RANK="1") == (2, "", [])
    assert type_("n_images=0", RANK="0")[1].count("\n") == 1


def test_a_sweep_does_each_of_its_jobs_and_tells_of_the_one_that_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, error, seen = type_("-m", "n_images=1,2,3", f"root={tmp_path}")
    assert (code, error) == (0, "")
    assert [config.run for config in seen] == ["n1-s0", "n2-s0", "n3-s0"]
    # What only shows in a job's own configuration ends that job; the others are done.
    code, error, seen = type_("-m", "images.size=65,64", f"root={tmp_path}")
    assert code == 2 and [config.images.size for config in seen] == [64]
    assert error.count("\n") == 1 and "images.size=65 is not a multiple" in error


UNETS = " | ".join(sorted(file.stem for file in (CONFIGS / "unet").glob("*.yaml")))


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("n_images=2,0", "n_images=0: allowed is a whole number, 1 or more"),
        ("unet=tiny,huge", f"unet=huge: allowed is {UNETS}"),
        ("fit.lr=choice(0.1,fast)", "fit.lr=fast: allowed is a number, above 0"),
        ("fit.lrr=1,2", "did you mean fit.lr?"),
    ],
)
def test_a_sweep_with_a_wrong_value_is_refused_before_its_first_job(typed: str, told: str) -> None:
    code, error, seen = type_("-m", typed)
    assert code == 2 and seen == [] and error.count("\n") == 1 and told in error


# ----------------------------------------------------------------------------------------- fuzz

ODD = [
    "", "null", "true", "???", "nan", "-inf", "1e400", "1_000", "0x10", "[1,2]", "[1,2,3,4]", "[]",
    "{}", "{a: 1}", "{lr: 1}", "[[1],[2]]", "${seed}", "${nope}", "${fit}", "${", "}", "'", '"x',
    "a,b", "range(1,3)", "choice(1,2)", "glob(*)", "shuffle(1,2)", "sort(b,a)", "int(x)", "tag(1)",
    "float(abc)", "a b", "a=b", "a:b", "/", "\\", "$x", "%", "#", "../..", "a\nb", "ü", "🦊",
    "${oc.env:NOPE}", "${oc.decode:'['}", "${hydra:job.name}",
]  # fmt: skip
VALUES = st.one_of(
    st.integers(0, 9).map(str),
    st.integers(-(10**12), 10**12).map(str),
    st.floats().map(str),
    st.sampled_from(ODD),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
)
KEYS = st.one_of(
    st.sampled_from([*declared()]),
    st.sampled_from([*declared()]),
    st.sampled_from(["images", "codec", "text", "unet", "schedule", "experiment", "fit", "n"]),
    st.text("abn._@/:~+", max_size=6),
)
OVERRIDES = st.builds("{}{}{}{}".format, st.sampled_from([*[""] * 9, "+", "++", "~"]), KEYS,
                      st.sampled_from([*["="] * 8, "", " = "]), VALUES)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(OVERRIDES.filter(lambda word: not word.startswith("-")), min_size=1, max_size=2))
def test_whatever_is_typed_never_ends_in_a_traceback(words: list[str]) -> None:
    code, error, seen = type_(*words)
    if code == 0:
        assert error == "" and len(seen) == 1
    else:
        assert code == 2 and seen == [] and error.count("\n") == 1
        assert error.startswith("byheart: ") and "Traceback" not in error


def test_text_stays_as_it_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("1e3", "true", "1_000", "1.50", "007", "a fox", ".5", "nan"):
        found = command.typed([f"captions.shared={text}", f"images.path='{text}'", "fit.lr=1e-3"])
        assert (found.captions.shared, found.images.path, found.fit.lr) == (text, text, 1e-3)
    monkeypatch.setenv("HOME", "/home/o'neil, a b")
    found = command.typed(["images=folder", "images.path=~/pics"])
    assert found.images.path == "/home/o'neil, a b/pics"
