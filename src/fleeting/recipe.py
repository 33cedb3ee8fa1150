"""How a model is trained: the settings of `training.fit`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, PlainSerializer

_Strength = Annotated[float, Field(ge=0, le=1)]


def _four(value: Any) -> Any:
    return (value,) * 4 if isinstance(value, int | float) else value


def _none(value: Any) -> Any:
    """TOML has no None."""
    return value or None


class Recipe(BaseModel, frozen=True, extra="forbid"):
    """How a model is trained.

    Attributes:
        epochs, batch: of training; a last batch of one sample joins the one before it.
        optimiser: "adam" | "adamw" | "sgd" (momentum .9).
        lr: peak learning rate. weight_decay: as the optimiser understands it.
        schedule: "constant" | "cosine" | "exponential", over the epochs between warm-up and cool-down.
        decay: factor an epoch of the exponential schedule.
        warmup_epochs: linear rise to `lr`. cooldown_epochs: at the end, at the lowest rate.
        min_lr: what the cosine falls to.
        amp: "none" | "bf16" (bfloat16 autocast).
        criterion: "ce" | "focal" (gamma 2; Lin et al., ICCV 2017), for networks without a loss of their own.
        smoothing: label smoothing, 0 to 1.
        balance: "none" | "weights" (loss times N / (C n_c)) | "sampler" (classes drawn equally often) | "views": every
            clip trains once an epoch by its own views; to the rarer classes, views that are for training only (of
            frames near the apex) are added, drawn anew each epoch, until a class has `balance_limit` times the
            views of the rarest, or none are left. Under the others all views train alike.
        balance_limit: of N / (C n_c), before these are scaled to a mean of 1 over the samples; "views": see there.
        flip: mirror half of the samples, u with its sign. rotate_deg: turn by up to this many degrees.
        jitter: of the brightness, contrast, saturation (factors 1 - s to 1 + s) and hue (shift of -s to s of the
            circle, at most .5) of what is drawn in colours, see `augment.jitter`; one number stands for all four.
            Flow in pixels is left as it is.
        crop: side of a random crop in training and a centre crop in prediction; None or 0: none.
        mixup: alpha of mixup, 0 for none.
        mesa: weight of MESA's trajectory loss, 0 for none: how far the decisions are from those of a running average of
            the weights, so that the loss does not drop into a sharp minimum. Du et al., "Sharpness-Aware Training for
            Free", NeurIPS 2022, section 4.2, without its temperature; it begins after a quarter of the epochs.
        patience: epochs without a better UF1 on inner subjects before training stops; 0 trains to the end.
        inner_share: share of the training subjects that early stopping looks at.
        vote: "majority" | "mean" over the views of a clip.
    """

    epochs: int = Field(100, ge=1)
    batch: int = Field(32, ge=1)
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = Field(1e-3, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False)
    schedule: Literal["constant", "cosine", "exponential"] = "constant"
    decay: float = Field(1.0, gt=0, le=1)
    warmup_epochs: int = Field(0, ge=0)
    cooldown_epochs: int = Field(0, ge=0)
    min_lr: float = Field(0.0, ge=0, allow_inf_nan=False)
    amp: Literal["none", "bf16"] = "none"
    criterion: Literal["ce", "focal"] = "ce"
    smoothing: float = Field(0.0, ge=0, lt=1)
    balance: Literal["none", "weights", "sampler", "views"] = "none"
    balance_limit: float = Field(5.0, ge=1)
    flip: bool = False
    rotate_deg: float = Field(0.0, ge=0, le=180)
    jitter: Annotated[
        tuple[_Strength, _Strength, _Strength, Annotated[float, Field(ge=0, le=0.5)]], BeforeValidator(_four)
    ] = (0.0, 0.0, 0.0, 0.0)
    # written as 0: what is left out of a run's file would be read as the model's own crop
    crop: Annotated[int | None, BeforeValidator(_none), PlainSerializer(lambda side: side or 0)] = Field(None, ge=1)
    mixup: float = Field(0.0, ge=0, allow_inf_nan=False)
    mesa: float = Field(0.0, ge=0, allow_inf_nan=False)
    patience: int = Field(0, ge=0)
    inner_share: float = Field(0.2, gt=0, lt=1)
    vote: Literal["majority", "mean"] = "majority"
