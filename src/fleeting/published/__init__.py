"""Numbers printed in the five papers that fleeting runs: one CSV a paper, one row a printed cell.

Sources (titles, authors, DOI in `PAPERS`): HTNet, Neurocomputing 602, 2024. MERba, arXiv:2506.14468, 2025.
AMMSM, IEEE ICME (arXiv:2503.24057), 2025. BOWAM, Chinese Journal of Computers, 2026,
DOI 10.11897/SP.J.1016.2026.00328. The frame study, ICICyTA, 2025. Only BOWAM prints its DOI. The texts at hand
print no venue: HTNet's is cited by MERba and BOWAM, BOWAM's is read from its DOI, MERba's is arXiv, AMMSM's
comes from a literature index, the frame study's from its authors' public archive.

Columns:
    paper: a key of `PAPERS`.
    table: where it is printed; ``Figure 7`` or ``Section III-D`` are numbers that the text prints.
    method: as printed, without markup and reference, Chinese names in English; empty for a property of the data.
        ``(ours)`` marks a paper's own main row, the bare name its ablations.
    year, citation: of the compared method. The year is the table's, else the cited reference's; empty where the
        text at hand has neither (HTNet's reference list stops at [11]).
    corpus: ``megc2019`` (the composite), ``casme2``, ``samm``, ``smic``, ``casme3``, ``dfme``; empty: not printed.
    part: ``all``; inside ``megc2019`` the corpus of the column; inside ``dfme`` ``train``, ``A`` or ``B``.
    classes: how many; None: not printed.
    protocol: ``loso``, ``fixed`` (DFME's parts), ``split`` (one random split), ``mixed`` (as printed) or empty.
    setting: what the row varies, ``key=value``, several joined by ``"; "``.
    metric: ``uf1 uar accuracy f1 macro_f1 macro_f1_low macro_f1_high recall`` (one class), ``params_m flops_g
        time_s latency_ms throughput``, counts ``n_<what>`` and ``confusions``, and of the input ``frame_rate
        resolution_px face_centred info_density``.
    value, unit: the printed number in the paper's own scale; ``% M G K s ms fps px`` or empty.
    selection: how the epoch was chosen, where public code shows it. ``last``, or ``oracle-epoch``: each left-out
        subject's best epoch on that subject, a rule under which a dice roll scores UF1 .83 (800 epochs,
        ``megc2019``). Empty: unknown.
    note: known errors, doubtful readings, disagreement between papers.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from fleeting.errors import UserError, nearest


@dataclass(frozen=True)
class Paper:
    """A paper; `doi` is empty where the paper prints none."""

    title: str
    authors: tuple[str, ...]
    venue: str
    year: int
    doi: str = ""


@dataclass(frozen=True)
class Row:
    """One printed cell; the fields are the columns that the module's docstring describes."""

    paper: str
    table: str
    method: str
    year: int | None
    citation: str
    corpus: str
    part: str
    classes: int | None
    protocol: str
    setting: str
    metric: str
    value: float
    unit: str
    selection: str
    note: str


PAPERS: dict[str, Paper] = {
    "htnet": Paper(
        "HTNet for micro-expression recognition",
        ("Zhifeng Wang", "Kaihao Zhang", "Wenhan Luo", "Ramesh Sankaranarayana"),
        "Neurocomputing",
        2024,
    ),
    "merba": Paper(
        "MERba: Multi-Receptive Field MambaVision for Micro-Expression Recognition",
        ("Xinglong Mao", "Shifeng Liu", "Sirui Zhao", "Tong Xu", "Enhong Chen"),
        "arXiv:2506.14468",
        2025,
    ),
    "ammsm": Paper(
        "AMMSM: Adaptive Motion Magnification and Sparse Mamba for Micro-Expression Recognition",
        ("Xuxiong Liu", "Tengteng Dong", "Fei Wang", "Weijie Feng", "Xiao Sun"),
        "IEEE ICME (arXiv:2503.24057)",
        2025,
    ),
    "bowam": Paper(
        "Micro-Expression Recognition Based on Bidirectional Optical Flow and Wavelet-Based Attention Mechanism",
        ("Wei-Cheng Xie", "Hang Xiao", "Wei-Jia Fan", "Zi-Han Wang", "Zi-Tong Yu", "Lin-Lin Shen"),
        "Chinese Journal of Computers",
        2026,
        "10.11897/SP.J.1016.2026.00328",
    ),
    "frame_study": Paper(
        "Preprocessing Paradox in Vision Transformer-Based Micro-Expression Recognition",
        ("Muhammad Taufiq Al Fikri", "Kurniawan Nur Ramadhani"),
        "ICICyTA",
        2025,
    ),
}


def rows(paper: str | None = None, *, corpus: str | None = None, metric: str | None = None) -> list[Row]:
    """The published cells, in the order of `PAPERS` and of the print.

    Args:
        paper: a key of `PAPERS`; None: all of them.
        corpus: only this corpus; a value that does not occur gives an empty list.
        metric: only this metric; likewise.

    Raises:
        UserError: `paper` is not a key of `PAPERS`.
    """
    if paper is not None and paper not in PAPERS:
        raise UserError(f"want a paper with published numbers, got {paper!r}{nearest(paper, PAPERS)}")
    return [
        row
        for name in (PAPERS if paper is None else [paper])
        for row in _read(name)
        if corpus in (None, row.corpus) and metric in (None, row.metric)
    ]


@cache
def _read(paper: str) -> tuple[Row, ...]:
    text = files(__name__).joinpath(f"{paper}.csv").read_text(encoding="utf-8")
    return tuple(_row(cells) for cells in csv.DictReader(text.splitlines()))


def _row(cells: dict[str, str]) -> Row:
    return Row(
        paper=cells["paper"],
        table=cells["table"],
        method=cells["method"],
        year=int(cells["year"]) if cells["year"] else None,
        citation=cells["citation"],
        corpus=cells["corpus"],
        part=cells["part"],
        classes=int(cells["classes"]) if cells["classes"] else None,
        protocol=cells["protocol"],
        setting=cells["setting"],
        metric=cells["metric"],
        value=float(cells["value"]),
        unit=cells["unit"],
        selection=cells["selection"],
        note=cells["note"],
    )
