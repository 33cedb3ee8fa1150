"""The guarded import of timm, and pretrained weights: found and fitted, or refused in one line."""

import hashlib
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from fleeting.errors import UserError
from fleeting.files import write_text
from fleeting.models import _timm
from fleeting.models._timm import Start

SIZES: dict[str, Any] = {"depths": (1, 1, 1, 1), "dims": (4, 8, 8, 16)}


pytestmark = pytest.mark.usefixtures("one_thread")


def made(classes: int = 3, channels: int = 3, seed: int = 0, **changes: Any) -> nn.Module:
    torch.manual_seed(seed)
    return _timm.create("convnext_tiny", num_classes=classes, in_chans=channels, **{**SIZES, **changes})


def started(network: nn.Module, source: str | Path, fresh: tuple[str, ...] = ("head.fc.*",), **more: str) -> Any:
    return _timm.start(network, "convnext_tiny", Start(weights=str(source), **more), fresh, "convnext")


@pytest.fixture
def saved(tmp_path: Path) -> tuple[dict[str, Tensor], Path]:
    """A pretrained network of 7 classes."""
    weights = made(7, seed=1).state_dict()
    save_file(weights, tmp_path / "convnext.safetensors")
    return weights, tmp_path / "convnext.safetensors"


def same(network: nn.Module, weights: dict[str, Tensor], but: str = "head.fc") -> bool:
    return all(torch.equal(value, weights[key]) for key, value in network.state_dict().items() if but not in key)


# --- the import


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return done.stdout.strip()


def test_timm_is_imported_in_a_fresh_process_and_once() -> None:
    code = "from fleeting.models import _timm; print(_timm.timm() is _timm.timm(), _timm.timm().__name__)"
    assert run(code) == "True timm"


def test_the_operators_are_declared_where_and_only_where_the_plain_import_fails_for_them(tmp_path: Path) -> None:
    """A torchvision whose Python part speaks of an undeclared operator, as the wheel beside a torch without CUDA."""
    write_text(
        tmp_path / "torchvision" / "__init__.py",
        "import torch\n@torch.library.register_fake('torchvision::nms')\ndef nms(dets, scores, iou_threshold): ...\n",
    )
    write_text(tmp_path / "timm" / "__init__.py", "import torchvision\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nfrom fleeting.models import _timm\n_timm.timm()\n"
    assert run(code + "print(len(_timm._SCHEMAS))") == "1"
    write_text(tmp_path / "torchvision" / "__init__.py", "")
    assert run(code + "print(len(_timm._SCHEMAS))") == "0"
    write_text(tmp_path / "torchvision" / "__init__.py", "raise RuntimeError('another fault')")
    with pytest.raises(AssertionError, match="another fault"):
        run(code)


def test_models_alone_import_no_timm() -> None:
    code = "import sys; from fleeting.models import bowam, convnext; print('timm' in sys.modules)"
    assert run(code) == "False"


@pytest.mark.parametrize("name", ["convnext_tiny", "resnet18", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224",
                                  "poolformer_s12"])  # fmt: skip
def test_other_architectures_are_made_and_started_too(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = _timm.create(name, num_classes=2)
    save_file(source.state_dict(), tmp_path / "x.safetensors")
    network = _timm.create(name, num_classes=3)
    told = _timm.start(network, name, Start(weights=str(tmp_path / "x.safetensors")), ("head.*", "fc.*"), name)
    theirs = source.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in network.state_dict().items()
               if not key.startswith(("head.", "fc.")))  # fmt: skip
    assert "at random" in told[0]


# --- what is loaded


def test_nothing_is_loaded_unasked() -> None:
    network, before = made(), made().state_dict()
    assert started(network, "none") == ()
    assert same(network, before, but="nothing")


@pytest.mark.parametrize("wrapper", ["", "state_dict", "model"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_all_but_the_head_comes_from_the_file(saved: Any, tmp_path: Path, suffix: str, wrapper: str) -> None:
    weights, path = saved
    if suffix == ".pth":
        path = tmp_path / "x.pth"
        torch.save({wrapper: weights, "epoch": 3} if wrapper else weights, path)
    network, before = made(), made().state_dict()
    (told,) = started(network, path)
    assert same(network, weights)
    assert torch.equal(network.state_dict()["head.fc.weight"], before["head.fc.weight"])
    source = f"{path} (sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]})"
    assert told == f"{len(weights) - 2} tensors start from {source}, 2 at random: head.fc.weight, head.fc.bias."


def test_the_authors_names_are_understood(saved: Any, tmp_path: Path) -> None:
    """Facebook's file: downsample_layers.0 for the stem, dwconv, pwconv1, the norm and the head by themselves."""
    weights, _ = saved
    theirs = {}
    for key, value in weights.items():
        key = key.replace("stem.", "downsample_layers.0.").replace(".blocks.", ".").replace("conv_dw", "dwconv")
        for stage in "123":
            key = key.replace(f"stages.{stage}.downsample", f"downsample_layers.{stage}")
        key = key.replace("mlp.fc", "pwconv").replace("head.norm", "norm").replace("head.fc", "head")
        theirs[key] = value
    torch.save({"model": theirs}, tmp_path / "fb.pth")
    network = made()
    started(network, tmp_path / "fb.pth")
    assert same(network, weights)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_another_number_of_channels_gets_the_mean_of_the_three(saved: Any, channels: int) -> None:
    weights, path = saved
    network = made(channels=channels)
    told = started(network, path)
    stem, theirs = network.state_dict()["stem.0.weight"], weights["stem.0.weight"]
    assert "stem.0.weight was made for another number of channels" in told[1]
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items()
               if key != "stem.0.weight" and not key.startswith("head.fc"))  # fmt: skip
    grey = torch.rand(1, 1, 4, 4)
    with torch.no_grad():  # a grey picture gives what it gave
        ours = nn.functional.conv2d(grey.expand(-1, channels, -1, -1), stem)
        assert torch.allclose(ours, nn.functional.conv2d(grey.expand(-1, 3, -1, -1), theirs), atol=1e-6)


def test_a_sum_ties_a_run_to_the_bytes(saved: Any) -> None:
    weights, path = saved
    network = made()
    started(network, path, weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest().upper())
    assert same(network, weights)
    with pytest.raises(UserError, match="want weights with sha256 0000"):
        started(made(), path, weights_sha256="0" * 64)
    with pytest.raises(ValidationError):
        Start(weights_sha256="12")


def test_the_hub_is_asked_for_the_named_tag(saved: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, path = saved
    asked = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *where: asked.append(where) or str(path))
    for source in ("hub", "hub:in12k_ft_in1k", "hub:fb_in1k"):
        network = made()
        told = started(network, source)
        assert same(network, weights)
        assert source in told[0]
    names = ["in12k_ft_in1k", "in12k_ft_in1k", "fb_in1k"]
    assert asked == [(f"timm/convnext_tiny.{name}", "model.safetensors") for name in names]


# --- what is refused


def refused(source: str | Path, match: str, **changes: Any) -> None:
    network = made(**changes)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(UserError, match=match) as caught:
        started(network, source)
    assert "\n" not in str(caught.value)
    assert same(network, before, but="nothing")


def test_no_such_file(tmp_path: Path) -> None:
    refused(tmp_path / "x.safetensors", "convnext: want a file of weights, got .*x.safetensors, which is none")


def test_no_such_tag() -> None:
    refused("hub:nope", "want weights of convnext_tiny that the hub has, got 'hub:nope'; .*in12k_ft_in1k")


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*where: str) -> str:
        raise ConnectionError("Name or service not known\nand much more")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    refused("hub", r"got no file \(Name or service not known\); connect, or download")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_broken_file(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"x{suffix}").write_bytes(b"no weights")
    refused(tmp_path / f"x{suffix}", "convnext: want a file of weights alone, got")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damage_anywhere_in_a_file_is_one_line(saved: Any, tmp_path: Path) -> None:
    """torch's reader and timm's filters end in IndexError, TypeError, struct.error and others."""
    rng, path = random.Random(0), tmp_path / "x.pth"
    torch.save(saved[0], path)
    whole = path.read_bytes()
    for turn in range(60):
        damaged = bytearray(whole[: rng.randrange(len(whole))] if turn % 2 else b"\x80\x02" + rng.randbytes(40))
        path.write_bytes(damaged)
        with pytest.raises(UserError) as error:
            started(made(), path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("source", ["~nobody-of-that-name/x.pth", "x" * 5000, "a\0b"])
def test_what_can_be_no_path_is_no_file(source: str) -> None:
    refused(source, "want a file of weights, got .*, which is none")


def test_codes_of_a_quantised_file_are_not_taken_for_weights(saved: Any, tmp_path: Path) -> None:
    key = "stages.0.blocks.0.mlp.fc1.weight"
    codes = {**saved[0], key: (100 * saved[0][key]).round().to(torch.int8)}
    save_file(codes, tmp_path / "int8.safetensors")
    refused(tmp_path / "int8.safetensors", rf"{key}: want \(16, 4\) float32, got \(16, 4\) int8")
    save_file({name: value.half() for name, value in saved[0].items()}, tmp_path / "half.safetensors")
    assert started(made(), tmp_path / "half.safetensors")


def test_a_file_that_would_run_code(tmp_path: Path) -> None:
    torch.save({"x": Path("a")}, tmp_path / "x.pth")
    refused(tmp_path / "x.pth", "want a file of weights alone")


def test_a_file_of_other_things(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "x.pth")
    refused(tmp_path / "x.pth", "want a file of named tensors")


@pytest.mark.parametrize("changes", [{"dims": (4, 8, 8, 12)}, {"depths": (1, 1, 2, 1)}, {"patch_size": 2}])
def test_weights_of_another_size(saved: Any, changes: dict[str, Any]) -> None:
    refused(
        saved[1], "convnext: want the weights of convnext_tiny that fit these options, got .* differs in", **changes
    )


def test_a_deeper_network_is_not_taken_in_part(tmp_path: Path) -> None:
    save_file(made(depths=(1, 1, 2, 1)).state_dict(), tmp_path / "deep.safetensors")
    refused(tmp_path / "deep.safetensors", r"stages.2.blocks.1.conv_dw.bias: want none, got \(8,\)")


def test_another_architecture(tmp_path: Path) -> None:
    save_file(_timm.create("resnet18", num_classes=2).state_dict(), tmp_path / "r.safetensors")
    refused(tmp_path / "r.safetensors", "want .*weights of convnext_tiny")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({1: torch.zeros(2)}, "want a file of named tensors"),
        ({"a": torch.tensor([1.0, float("nan")])}, r"want dense, real and finite weights, got others in .* \(a\)"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "want dense, real and finite weights"),
        ({"a": torch.eye(2).to_sparse()}, "want dense, real and finite weights"),
    ],
)
def test_other_tensors_than_weights_are_refused(tensors: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(tensors, path)
    with pytest.raises(UserError, match=message):
        _timm._tensors(path, "convnext")


def test_a_sum_without_weights_is_refused() -> None:
    with pytest.raises(ValidationError, match="weights is 'none'"):
        _timm.Start(weights_sha256="0" * 64)
