"""Networks of timm (Wightman, PyTorch Image Models), and the one place where pretrained weights are found.

Weights come from nowhere, from a file or from Hugging Face's hub, as the experiment says (`Start`); what was asked for
and cannot be had is an error, so that no network starts at random unasked.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch
from pydantic import BaseModel, Field, model_validator
from safetensors.torch import load_file
from torch import Tensor, nn

from fleeting.errors import UserError

_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
_SCHEMAS: list[torch.library.Library] = []  # dropped, they would be undone


class Start(BaseModel, frozen=True, extra="forbid"):
    """Where a network begins. Options of models that can begin with pretrained weights are derived from it.

    Attributes:
        weights: "none": at random; "hub": the weights that timm names first for the architecture, "hub:TAG": those of
            that tag, such as "hub:in12k_ft_in1k"; anything else: path of a file, .safetensors or what
            ``torch.load(weights_only=True)`` reads.
        weights_sha256: of the file or what the hub gives, checked where it is given; it ties a run to the bytes.
    """

    weights: str = Field("none", min_length=1)
    weights_sha256: str = Field("", pattern=r"^([0-9a-fA-F]{64})?$")

    @model_validator(mode="after")
    def _tied(self) -> Start:
        if self.weights_sha256 and self.weights == "none":
            raise ValueError("weights_sha256 is of a file or of what the hub gives, and weights is 'none'")
        return self


def timm() -> ModuleType:
    """The package timm, imported when first asked for.

    timm imports torchvision, whose wheel from PyPI fails beside a torch without CUDA: its C++ part, made for another
    torch, is not loaded, and a Python part then speaks of an operator that nobody declared (pytorch/vision #9077). If,
    and only if, that is what happens, the two operators are declared and the import is tried again; nothing here calls
    them.

    Raises:
        ImportError: they are not installed.
    """
    if "timm" not in sys.modules:
        try:
            import torchvision
        except RuntimeError as error:
            if "operator torchvision::nms does not exist" not in str(error):
                raise
            _declare()
            import torchvision  # noqa: F401
    import timm as found

    return found


def _declare() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _SCHEMAS.append(library)


def create(architecture: str, **arguments: object) -> nn.Module:
    """A network of timm at random weights.

    Args:
        architecture: timm's name without a tag, such as "convnext_tiny".
        arguments: as timm's `create_model` takes them: in_chans, num_classes, img_size, drop_path_rate, ...
    """
    return cast(nn.Module, timm().create_model(architecture, pretrained=False, **arguments))


def start(
    network: nn.Module,
    architecture: str,
    options: Start,
    fresh: Sequence[str],
    name: str,
    own_parts: Sequence[str] = (),
) -> tuple[str, ...]:
    """Gives a network its first weights, as the options say.

    Every tensor of the network must be in the file with its shape, and every tensor of the file in the network, but
    for `fresh`. Two changes: a first convolution for another number of channels than the file's three gets their
    mean, scaled so that its output keeps its size; what holds places (position embeddings, tables of relative
    positions, patches) is resized by timm's own filter where the network has others.

    Args:
        network: with timm's names, changed in place.
        architecture: timm's name for what the weights are of.
        options: see there.
        fresh: patterns of names that stay as they are ("head.fc.*"): the classes are others here.
        name: of the model, for complaints.
        own_parts: patterns of names that only a file of this very network has; taken from it if all are there, else
            they stay as they are.

    Returns:
        What should be known of it, with the beginning of the file's sha256, one sentence each; nothing for "none".

    Raises:
        UserError: no such file, hub or tag, another sha256, no weights in it, or weights of another network.
    """
    if options.weights == "none":
        return ()
    path = _path(architecture, options.weights, name)
    sha256 = _sha256(path)
    if options.weights_sha256 and sha256 != options.weights_sha256.lower():
        raise UserError(
            f"{name}: want weights with sha256 {options.weights_sha256}, got {path} with {sha256}; give the file of "
            "that sum"
        )
    own = network.state_dict()
    read = _unwrapped(_tensors(path, name), own)
    found = _converted(read, network, architecture, path)
    if not {key for key in own if _matches(key, own_parts)} <= found.keys():
        fresh = [*fresh, *own_parts]
    wanted = {key: tensor for key, tensor in own.items() if not _matches(key, fresh)}
    given = {key: tensor for key, tensor in found.items() if not _matches(key, fresh)}
    fitted = {key: _fitted(tensor, wanted[key]) for key, tensor in given.items() if key in wanted}
    wrong = sorted(wanted.keys() ^ given.keys()) + [key for key in fitted if not _alike(fitted[key], wanted[key])]
    if wrong:
        raise UserError(_misfit(name, architecture, path, wrong, wanted, given))
    network.load_state_dict(fitted, strict=False)
    turned = [key for key in fitted if fitted[key] is not given[key]]
    resized = [key for key in fitted if key in read and read[key].numel() != given[key].numel()]
    source = f"{options.weights} (sha256 {sha256[:16]})"
    told = _told(source, len(fitted), [key for key in own if key not in fitted], turned)
    fits = f"{len(resized)} tensors were resized for another size of pictures or patches: {_few(resized)}."
    return (*told, fits) if resized else told


def _told(source: str, count: int, random: list[str], turned: list[str]) -> tuple[str, ...]:
    told = [f"{count} tensors start from {source}, {len(random)} at random: {_few(random)}."]
    return (*told, *(f"{key} was made for another number of channels from the mean of its three." for key in turned))


def _alike(tensor: Tensor, wanted: Tensor) -> bool:
    """Whether one can stand for the other; whole numbers for others are codes of a quantised file, no weights."""
    return tensor.shape == wanted.shape and tensor.is_floating_point() == wanted.is_floating_point()


def _matches(key: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(key, pattern) for pattern in patterns)


def _few(keys: Sequence[str]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "") if keys else "none"


def _fitted(tensor: Tensor, wanted: Tensor) -> Tensor:
    """A first convolution (D, 3, h, w) for another number of channels; anything else as it is."""
    (channels, *rest), (other, *others) = tensor.shape[1:] or (0,), wanted.shape[1:] or (0,)
    if tensor.ndim != 4 or len(tensor) != len(wanted) or rest != others or channels != 3 or other == 3:
        return tensor
    return (tensor.mean(1, keepdim=True) * 3 / other).expand(wanted.shape).contiguous()


def _misfit(
    name: str,
    architecture: str,
    path: Path,
    wrong: list[str],
    wanted: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
) -> str:
    key = wrong[0]
    sizes = [_size(tensors.get(key)) for tensors in (wanted, given)]
    return (
        f"{name}: want the weights of {architecture} that fit these options, got {path}, which differs in {len(wrong)} "
        f"tensors ({_few(wrong)}; {key}: want {sizes[0]}, got {sizes[1]}); give another file, options of that size, or "
        "weights = 'none'"
    )


def _size(tensor: Tensor | None) -> str:
    return "none" if tensor is None else f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _path(architecture: str, source: str, name: str) -> Path:
    """The file, downloaded if the hub has it."""
    if source != "hub" and not source.startswith("hub:"):
        # os.path leaves what names no user as it is, and takes what cannot be a path for no file
        path = os.path.expanduser(source)  # noqa: PTH111
        if not os.path.isfile(path):  # noqa: PTH113
            raise UserError(f"{name}: want a file of weights, got {source}, which is none; give its path, or 'hub'")
        return Path(path)
    repository = _repository(architecture, source, name)
    import huggingface_hub

    try:
        return Path(huggingface_hub.hf_hub_download(repository, "model.safetensors"))
    except Exception as error:  # a dozen kinds: no network, a proxy, no such repository, a full disk
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{name}: want {repository} from the hub, got no file ({reason}); connect, or download its "
            "model.safetensors elsewhere and give the path as weights"
        ) from error


def _repository(architecture: str, source: str, name: str) -> str:
    """The hub's repository of "hub" or "hub:TAG"."""
    try:
        config = timm().models.get_pretrained_cfg(
            ".".join(part for part in (architecture, source.partition(":")[2]) if part)
        )
    except RuntimeError:  # no such tag
        config = None
    if config is None or not config.hf_hub_id:
        known = [each.partition(".")[2] for each in timm().list_pretrained(f"{architecture}.*")]
        raise UserError(
            f"{name}: want weights of {architecture} that the hub has, got {source!r}; give hub:TAG with one of "
            f"{', '.join(known) or 'no tag at all'}"
        )
    return str(config.hf_hub_id)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _tensors(path: Path, name: str) -> dict[str, Tensor]:
    """Names and tensors of a file; nothing in it is run."""
    try:
        found: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # a damaged file ends torch's reader in a dozen ways, IndexError and struct.error too
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{name}: want a file of weights alone, got {path} ({reason}); save its state_dict") from error
    while isinstance(found, Mapping) and any(key in found for key in _WRAPPERS):
        found = found[next(key for key in _WRAPPERS if key in found)]
    named = isinstance(found, Mapping) and found and all(isinstance(key, str) for key in found)
    if not named or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{name}: want a file of named tensors, got {path}; save the network's state_dict")
    odd = [key for key, value in found.items() if not _plain(value)]
    odd += [key for key, value in found.items() if key not in odd and not bool(value.isfinite().all())]
    if odd:
        raise UserError(
            f"{name}: want dense, real and finite weights, got others in {path} ({_few(odd)}); save them anew"
        )
    return dict(found)


def _plain(value: Tensor) -> bool:
    return value.layout is torch.strided and not value.is_complex() and not value.is_quantized


def _unwrapped(found: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the word that our models put before timm's names: what `fleeting train` saved is a start, too."""
    word = "layers."
    if not found.keys() & own.keys() and all(key.startswith(word) for key in found):
        return {key.removeprefix(word): tensor for key, tensor in found.items()}
    return found


def _converted(found: dict[str, Tensor], network: nn.Module, architecture: str, path: Path) -> dict[str, Tensor]:
    """The tensors under timm's names: its own filter knows the names of the authors' files, and other picture sizes."""
    place = timm().model_entrypoint(architecture).__module__
    filter_ = getattr(sys.modules[place], "checkpoint_filter_fn", None)
    if filter_ is None:
        return found
    reference = network
    if type(network).__module__ != place:  # our own network under timm's names: may have fewer stages than the file
        with torch.device("meta"):
            reference = create(architecture)
    try:
        return cast(dict[str, Tensor], filter_(found, reference))
    except Exception as error:  # timm's filters take names and shapes for granted
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"want weights of {architecture}, got {path}, whose tensors have other names or shapes ({reason}); give "
            "another file"
        ) from error
