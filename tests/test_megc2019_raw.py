"""The composite made from the three raw corpora is the challenge's list: 442 clips, clip by clip."""

import csv
import shutil
from collections import Counter

import pytest

from fleeting.datasets import _standins, casme2, megc2019_flow, samm, smic_hs
from fleeting.protocols import megc2019
from fleeting.records import Clip

pytestmark = pytest.mark.data
WORDS = {"0": "negative", "1": "positive", "2": "surprise"}
SHEETS = ("CASME2-coding-20140508.xlsx", "CASME2-coding-20190701.xlsx")


@pytest.fixture(scope="module")
def official(real):
    """Key -> class of the challenge's own list, whose SAMM subjects carry no zeros."""
    with (real / "annotations" / "megc2019_combined_3class_gt.csv").open(encoding="utf-8-sig") as stream:
        rows = [row[:4] for row in csv.reader(stream) if row and row[0]]
    width = {"casme2": 0, "samm": 3, "smic": 0}
    return {f"{corpus}/{subject.zfill(width[corpus])}/{clip}": WORDS[label] for corpus, subject, clip, label in rows}


@pytest.fixture(scope="module")
def raw(real, tmp_path_factory):
    """Corpus -> its clips, over empty files in place of the frames."""
    root = tmp_path_factory.mktemp("raw")
    for module, name in ((casme2, SHEETS[0]), (samm, "SAMM_Micro_FACS_Codes_v2.xlsx")):
        home = root / module.INFO.title
        home.mkdir()
        shutil.copy(real / "annotations" / name, home)
        for row in module.annotations(home / name):
            fill(home / row["subject"] / row["clip"], int(row["onset"]), int(row["offset"]))
    with (real / "landmarks68" / "smic" / "coding.csv").open(encoding="utf-8-sig") as stream:
        for row in csv.DictReader(stream):
            place = root / "smic" / "HS" / row["Subject"] / "micro" / row["Emotion"] / row["Filename"]
            fill(place, int(row["OnsetFrame"]), int(row["OffsetFrame"]))
    homes = {casme2: casme2.INFO.title, samm: samm.INFO.title, smic_hs: "smic"}
    return {module: module.load(root / home) for module, home in homes.items()}


def fill(place, first, last):
    place.mkdir(parents=True)
    for number in range(first, last + 1):
        (place / f"img{number}.jpg").touch()


def labelled(clips):
    found = {clip.key: megc2019.label(clip, megc2019.Options()) for clip in clips if not clip.problem}
    return {key: word for key, word in found.items() if word}


def test_the_raw_corpora_are_the_official_list(raw, official):
    assert len(official) == 442
    assert labelled(clip for clips in raw.values() for clip in clips) == official


@pytest.mark.parametrize(
    ("module", "counts", "subjects"),
    [(casme2, (88, 32, 25), 24), (samm, (92, 26, 15), 28), (smic_hs, (70, 51, 43), 16)],
)
def test_the_counts_of_each_corpus(raw, module, counts, subjects):
    found = labelled(raw[module])
    assert tuple(Counter(found.values())[word] for word in WORDS.values()) == counts
    assert len({key.rpartition("/")[0] for key in found}) == subjects


def test_keys_are_those_of_the_published_flow(raw, real):
    flow = {clip.key: clip.emotion for clip in megc2019_flow.load(real / "megc2019")}
    assert labelled(clip for clips in raw.values() for clip in clips) == flow


def test_the_label_of_published_flow_is_its_class(real):
    clips = megc2019_flow.load(real / "megc2019")
    assert labelled(clips) == {clip.key: clip.emotion for clip in clips}


def test_the_known_error_behind_an_equal_count_is_not_made(raw):
    """Dropping sub05/EP12_03f and keeping sub05/EP09_05f gives 145 clips too."""
    found = labelled(raw[casme2])
    assert found["casme2/sub05/EP12_03f"] == "surprise"
    assert not {"casme2/sub05/EP09_05f", "casme2/sub04/EP12_01f"} & set(found)


@pytest.mark.parametrize("name", SHEETS)
def test_the_composite_is_the_same_from_either_sheet_of_casme2(real, official, name):
    rows = casme2.annotations(real / "annotations" / name)
    rows.append({"subject": "sub24", "clip": "EP02_07", "emotion": "disgust"})  # of a later revision
    clips = [Clip("casme2", row["subject"], row["clip"], (), emotion=row["emotion"]) for row in rows]
    assert labelled(clips) == {key: word for key, word in official.items() if key.startswith("casme2/")}


def test_the_standins_have_all_three_classes(tmp_path):
    for module in (casme2, samm, smic_hs):
        module.write_standin(tmp_path / module.INFO.title)
        clips = module.load(tmp_path / module.INFO.title)
        assert set(labelled(clips).values()) == set(WORDS.values())
        assert len({clip.subject for clip in clips}) >= 3
        assert _standins.is_standin(tmp_path / module.INFO.title)
