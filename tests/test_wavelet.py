"""The wavelet transform against PyWavelets, against its own adjoint, and against finite differences."""

import numpy as np
import pytest
import pywt
import torch
from torch import Tensor

from fleeting.errors import UserError
from fleeting.layers import wavelet

FAMILIES = ["haar", "db4", "sym5", "bior2.2", "bior3.1", "bior6.8", "rbio1.3", "coif5", "dmey"]
SIZES = [(8, 8), (7, 7), (7, 10), (1, 1), (2, 3), (5, 1), (28, 28), (57, 33)]
BOUNDS = {torch.float32: 1e-5, torch.float64: 1e-10}


def maps(size: tuple[int, int], dtype: torch.dtype = torch.float64, batch: int = 2, channels: int = 3) -> Tensor:
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(1), dtype=dtype)


def pywts(x: Tensor, name: str) -> Tensor:
    low, (horizontal, vertical, diagonal) = pywt.dwt2(x.numpy(), name, "periodization")
    return torch.from_numpy(np.stack([low, horizontal, vertical, diagonal], 1))


def off(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FAMILIES)
def test_bands_and_maps_are_those_of_pywavelets(name: str, size: tuple[int, int], dtype: torch.dtype) -> None:
    x = maps(size, dtype)
    bands = wavelet.dwt(x, name)
    assert bands.dtype == dtype
    assert off(bands, pywts(x, name)) < BOUNDS[dtype]
    other = torch.randn_like(bands)
    parts = other.numpy()
    theirs = pywt.idwt2((parts[:, 0], (parts[:, 1], parts[:, 2], parts[:, 3])), name, "periodization")
    assert off(wavelet.idwt(other, name, size), torch.from_numpy(theirs)[..., : size[0], : size[1]]) < BOUNDS[dtype]


@pytest.mark.parametrize("name", pywt.wavelist(kind="discrete"))
def test_every_wavelet_gives_the_map_back(name: str) -> None:
    for size in ((12, 12), (7, 9), (1, 2)):
        x = maps(size)
        bands = wavelet.dwt(x, name)
        assert off(bands, pywts(x, name)) < 1e-10
        # dmey and the older tables are perfect only to the digits in which they are printed
        exact = off(torch.from_numpy(pywt.idwt2(_parts(pywts(x, name)), name, "periodization"))[..., : size[0],
                    : size[1]], x)  # fmt: skip
        assert off(wavelet.idwt(bands, name, size), x) < max(1e-10, 1.01 * exact)


def _parts(bands: Tensor) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    low, *high = bands.unbind(1)
    return low.numpy(), tuple(band.numpy() for band in high)


@pytest.mark.parametrize("name", ["haar", "bior2.2", "coif5"])
def test_which_band_sees_which_edge(name: str) -> None:
    """Section 3.2.2: LH holds horizontal edges, HL vertical ones, HH what is neither."""
    stripes = torch.tensor([1.0, -1.0]).repeat(8)
    cases = {"LH": stripes[:, None].expand(16, 16), "HL": stripes.expand(16, 16), "LL": torch.ones(16, 16),
             "HH": torch.outer(stripes, stripes)}  # fmt: skip
    for band, picture in cases.items():
        energy = wavelet.dwt(picture[None, None], name).square().sum((0, 2, 3, 4))
        assert energy[wavelet.BANDS.index(band)] > 0.999 * energy.sum() > 0


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 3)])
@pytest.mark.parametrize("name", ["haar", "db4", "bior3.1"])
def test_gradients_are_those_of_finite_differences(name: str, size: tuple[int, int]) -> None:
    x = maps(size, channels=2).requires_grad_()
    bands = wavelet.dwt(x.detach(), name).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: wavelet.dwt(x, name), x)
    assert torch.autograd.gradcheck(lambda bands: wavelet.idwt(bands, name, size), bands)
    assert torch.autograd.gradgradcheck(lambda x: wavelet.dwt(x, name).square(), x)
    assert torch.autograd.gradgradcheck(lambda bands: wavelet.idwt(bands, name, size).square(), bands)


@pytest.mark.parametrize("name", ["haar", "db4", "sym5", "coif5"])
def test_of_an_orthonormal_wavelet_the_inverse_is_the_adjoint(name: str) -> None:
    """<dwt(x), y> = <x, idwt(y)> for even sides, and energy is kept."""
    x = maps((10, 6))
    bands = wavelet.dwt(x, name)
    other = torch.randn_like(bands)
    assert float((bands * other).sum()) == pytest.approx(float((x * wavelet.idwt(other, name, (10, 6))).sum()))
    assert float(bands.square().sum()) == pytest.approx(float(x.square().sum()))


def test_the_gradient_is_the_adjoint_for_biorthogonal_ones_too() -> None:
    x = maps((9, 6)).requires_grad_()
    bands = wavelet.dwt(x, "bior2.4")
    other = torch.randn_like(bands)
    (grad,) = torch.autograd.grad(bands, x, other)
    assert float((bands * other).sum().detach()) == pytest.approx(float((x * grad).sum().detach()))


@pytest.mark.parametrize("name", ["haar", "db1", "coif1"])
def test_memory_layout_changes_nothing_and_the_high_bands_are_one_map_without_a_copy(name: str) -> None:
    x = maps((7, 8))
    bands = wavelet.dwt(x, name)
    assert torch.equal(wavelet.dwt(x.contiguous(memory_format=torch.channels_last), name), bands)
    high = bands[:, 1:].flatten(1, 2)
    assert high.untyped_storage().data_ptr() == bands.untyped_storage().data_ptr()
    assert torch.equal(high[:, 3:6], bands[:, 2])
    assert wavelet.idwt(bands, name, (7, 8)).stride(1) == 1


def test_haar_by_adding_is_haar_by_matrices() -> None:
    x = maps((11, 6))
    down, across = (wavelet._analysis("haar", side, x.dtype, x.device) for side in (11, 6))
    whole = down @ x @ across.T
    assert off(wavelet.dwt(x, "haar")[:, 1], whole[..., 6:, :3]) < 1e-12
    assert off(wavelet.dwt(x, "haar")[:, 2], whole[..., :6, 3:]) < 1e-12


@pytest.mark.parametrize("name", ["haar", "db4"])
def test_the_first_call_may_come_from_a_prediction(name: str) -> None:
    wavelet._analysis.cache_clear()
    wavelet._synthesis.cache_clear()
    with torch.inference_mode():
        wavelet.idwt(wavelet.dwt(maps((6, 6)), name), name, (6, 6))
    x = maps((6, 6)).requires_grad_()
    wavelet.idwt(wavelet.dwt(x, name), name, (6, 6)).sum().backward()
    assert x.grad is not None
    with torch.device("meta"):
        assert wavelet.dwt(torch.zeros(2, 3, 7, 7), name).shape == (2, 4, 3, 4, 4)


@pytest.mark.parametrize("name", ["haar", "db4"])
def test_half_precision_stays_near(name: str) -> None:
    x = maps((14, 14), torch.float32)
    assert off(wavelet.dwt(x.bfloat16(), name).float(), wavelet.dwt(x, name)) < 0.1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert off(wavelet.idwt(wavelet.dwt(x, name), name, (14, 14)).float(), x) < 0.1


def test_what_cannot_be_transformed_is_refused() -> None:
    with pytest.raises(UserError, match="want a discrete wavelet of PyWavelets, got 'harr'; did you mean 'haar'"):
        wavelet.dwt(maps((4, 4)), "harr")
    with pytest.raises(UserError, match="got 'mexh'"):
        wavelet.idwt(torch.zeros(1, 4, 1, 2, 2), "mexh", (4, 4))
    with pytest.raises(ValueError, match=r"want maps \(B, C, H, W\)"):
        wavelet.dwt(torch.zeros(3, 4, 4))
    with pytest.raises(ValueError, match=r"want bands \(B, 4, C, 3, 2\)"):
        wavelet.idwt(torch.zeros(1, 4, 1, 2, 2), "haar", (5, 4))
