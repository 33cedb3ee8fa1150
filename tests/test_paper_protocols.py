"""The protocols of single corpora: the classes and counts that the papers print, and who is on which side."""

from collections import Counter
from pathlib import Path

import pytest

from fleeting.datasets import _sheets, casme3, dfme
from fleeting.errors import UserError
from fleeting.protocols import casme2, hde, loso, megc2019, samm
from fleeting.protocols import casme3 as casme3_protocol
from fleeting.protocols import dfme as dfme_protocol
from fleeting.records import Clip

FRAMES = (Path("0.png"),)
COARSE = ("negative", "positive", "surprise")


def clip(corpus, subject, name, emotion, part=""):
    return Clip(corpus, subject, name, FRAMES, emotion=emotion, part=part)


def labelled(protocol, clips, **chosen):
    """Options, surviving clips and key -> class number."""
    options = protocol.Options(**chosen)
    number = {word: index for index, word in enumerate(protocol.classes(options))}
    words = {one.key: protocol.label(one, options) for one in clips}
    kept = [one for one in clips if words[one.key] is not None]
    return options, kept, {one.key: number[words[one.key]] for one in kept}


def counted(protocol, clips, **chosen):
    """(clips of each class in the order of the classes, subjects)."""
    options, kept, labels = labelled(protocol, clips, **chosen)
    counts = Counter(labels.values())
    return [counts[index] for index in range(len(protocol.classes(options)))], len({one.group for one in kept})


@pytest.fixture(scope="module")
def casme2_clips(real):
    rows = _sheets.table(
        real / "annotations" / "CASME2-coding-20140508.xlsx",
        {"subject": ("Subject",), "clip": ("Filename",), "emotion": ("Estimated Emotion",)},
    )
    return [clip("casme2", f"sub{row['subject'].zfill(2)}", row["clip"], row["emotion"]) for row in rows]


@pytest.fixture(scope="module")
def samm_clips(real):
    rows = _sheets.table(
        real / "annotations" / "SAMM_Micro_FACS_Codes_v2.xlsx",
        {"subject": ("Subject",), "clip": ("Filename",), "emotion": ("Estimated Emotion",)},
    )
    return [clip("samm", row["subject"].zfill(3), row["clip"], row["emotion"]) for row in rows]


@pytest.fixture(scope="module")
def casme3_clips(real):
    rows = casme3.annotations(real / "annotations" / "CASME3_partA_ME_v2.xlsx")
    return [clip("casme3", row["subject"], f"{row['clip']}@{row['onset']}", row["emotion"]) for row in rows]


@pytest.fixture(scope="module")
def dfme_clips(real):
    return [
        clip("dfme", row["subject"], row["clip"], row["emotion"], part)
        for part, path in dfme.sheets(real / "annotations").items()
        for row in dfme.annotations(path)
    ]


@pytest.mark.data
def test_casme2_has_the_clips_of_megc2019_in_three_classes(casme2_clips):
    assert counted(casme2, casme2_clips, classes=3) == ([88, 32, 25], 24)


@pytest.mark.data
def test_casme2_has_246_clips_in_five_classes_and_255_in_seven(casme2_clips):
    five, seven = [63, 32, 27, 25, 99], [63, 32, 27, 25, 99, 7, 2]
    assert counted(casme2, casme2_clips) == (five, 26)
    assert counted(casme2, casme2_clips, classes=7) == (seven, 26)
    assert (sum(five), sum(seven)) == (246, 255)


@pytest.mark.data
@pytest.mark.parametrize("seed", [0, 1, 45])
def test_the_frame_studys_split_has_its_printed_sizes(casme2_clips, seed):
    options, kept, labels = labelled(casme2, casme2_clips, classes=7, subject_overlap=True)
    (fold,) = casme2.folds(kept, labels, options, seed)
    assert (len(fold.train), len(fold.valid), len(fold.tested)) == (201, 26, 28)
    fear = casme2.classes(options).index("fear")
    assert [sum(labels[key] == fear for key in part) for part in (fold.train, fold.valid, fold.tested)] == [1, 1, 0]
    assert {key.rpartition("/")[0] for key in fold.train} & {key.rpartition("/")[0] for key in fold.tested}


@pytest.mark.data
def test_the_frame_studys_split_without_the_clip_that_has_no_apex(casme2_clips):
    clips = [one for one in casme2_clips if one.key != "casme2/sub04/EP12_01f"]
    options, kept, labels = labelled(casme2, clips, classes=7, subject_overlap=True)
    (fold,) = casme2.folds(kept, labels, options, 0)
    assert (len(fold.train), len(fold.valid), len(fold.tested)) == (200, 26, 28)


@pytest.mark.data
def test_casme2_leaves_out_26_subjects(casme2_clips):
    options, kept, labels = labelled(casme2, casme2_clips)
    folds = casme2.folds(kept, labels, options, 0)
    assert len(folds) == 26
    assert Counter(key for fold in folds for key in fold.tested) == Counter(one.key for one in kept)


@pytest.mark.data
def test_samm_has_133_clips_in_three_classes_and_136_in_five(samm_clips):
    assert counted(samm, samm_clips) == ([92, 26, 15], 28)
    five, subjects = counted(samm, samm_clips, classes=5)
    assert five == [57, 12, 26, 15, 26]
    assert (sum(five), subjects) == (136, len({one.subject for one in samm_clips if one.emotion not in (
        "Disgust", "Fear", "Sadness")}))  # fmt: skip


@pytest.mark.data
def test_casme3_counts_are_those_of_the_sheet(casme3_clips):
    assert counted(casme3_protocol, casme3_clips, classes=3) == ([457, 55, 187], 88)
    assert counted(casme3_protocol, casme3_clips, classes=4) == ([457, 55, 187, 161], 94)
    assert counted(casme3_protocol, casme3_clips, classes=7) == ([64, 250, 86, 55, 57, 187, 161], 94)


@pytest.mark.data
def test_groups_of_megc2019_leave_every_subject_out_once_and_change_with_the_seed():
    clips = people("casme2", ["anger"] * 3) + people("samm", ["surprise"] * 3)
    options = megc2019.Options(groups=4)
    dealt = {}
    for seed in (0, 1):
        folds = megc2019.folds(clips, {one.key: 0 for one in clips}, options, seed)
        assert [len(fold.tested) for fold in folds] == [6, 6, 6, 6]
        assert sorted(key for fold in folds for key in fold.tested) == sorted(one.key for one in clips)
        dealt[seed] = {frozenset(fold.tested) for fold in folds}
    assert dealt[0] != dealt[1]


@pytest.mark.parametrize("protocol", [megc2019, hde])
def test_casme3_keeps_its_coarse_classes_among_other_corpora(casme3_clips, protocol):
    assert counted(protocol, casme3_clips) == ([457, 55, 187], 88)
    _, _, alone = labelled(casme3_protocol, casme3_clips)
    assert labelled(protocol, casme3_clips)[2] == alone


@pytest.mark.data
def test_a_run_has_one_clip_less_than_the_sheet_of_casme3(casme3_clips):
    usable = [one for one in casme3_clips if one.key != "casme3/spNO.214/c@5"]
    assert counted(casme3_protocol, usable) == ([456, 55, 187], 88)
    assert counted(casme3_protocol, usable, rows="htnet") == ([448, 54, 184], 87)


@pytest.mark.data
def test_casme3_gives_htnets_687_rows_without_the_twelve_that_its_list_lacks(casme3_clips):
    counts, subjects = counted(casme3_protocol, casme3_clips, rows="htnet")
    assert (counts, subjects) == ([449, 54, 184], 87)
    missing = casme3_protocol._NOT_IN_HTNET
    assert len(missing) == 12
    assert missing <= {one.key for one in casme3_clips}


@pytest.mark.data
def test_dfme_has_the_official_split(dfme_clips):
    options, kept, labels = labelled(dfme_protocol, dfme_clips)
    (fold,) = dfme_protocol.folds(kept, labels, options, 0)
    assert (len(fold.train), len(fold.valid)) == (1856, 0)
    assert {part: len(keys) for part, keys in fold.test.items()} == {"A": 474, "B": 299}
    groups = [{key.rpartition("/")[0] for key in keys} for keys in (fold.train, *fold.test.values())]
    assert [len(group) for group in groups] == [176, 42, 41]
    counts = [
        [sum(labels[key] == index for key in keys) for index in range(7)] for keys in (fold.train, *fold.test.values())
    ]
    # anger, contempt, disgust, fear, happiness, sadness, surprise
    assert counts == [[161, 100, 548, 265, 206, 278, 298], [39, 34, 129, 62, 63, 46, 101], [41, 37, 58, 38, 42, 35, 48]]


@pytest.mark.data
def test_dfme_in_three_classes_has_the_published_counts(dfme_clips):
    options, kept, labels = labelled(dfme_protocol, dfme_clips, classes=3)
    (fold,) = dfme_protocol.folds(kept, labels, options, 0)
    counts = [[sum(labels[key] == index for key in keys) for index in range(3)] for keys in (
        fold.train, *fold.test.values())]  # fmt: skip
    assert counts == [[1352, 206, 298], [310, 63, 101], [209, 42, 48]]


@pytest.mark.data
def test_dfmes_validation_share_holds_out_35_of_176_subjects(dfme_clips):
    options, kept, labels = labelled(dfme_protocol, dfme_clips, valid_share=0.2)
    (fold,) = dfme_protocol.folds(kept, labels, options, 3)
    train, valid = ({key.rpartition("/")[0] for key in keys} for keys in (fold.train, fold.valid))
    assert (len(train), len(valid), train & valid) == (141, 35, set())
    assert len(fold.train) + len(fold.valid) == 1856
    (other,) = dfme_protocol.folds(kept, labels, options, 4)
    assert set(other.valid) != set(fold.valid)
    assert other.test == fold.test


def people(corpus, words, parts=("",)):
    return [
        clip(corpus, f"s{index}{part}", f"{index}-{place}", word, part)
        for part in parts
        for index in range(4)
        for place, word in enumerate(words)
    ]


def test_repression_is_negative_in_casme2_and_fear_has_no_coarse_class():
    options = casme2.Options(classes=3)
    words = ("happiness", "disgust", "repression", "surprise", "fear", "sadness", "others")
    found = [casme2.label(clip("casme2", "sub01", "a", word), options) for word in words]
    assert found == ["positive", "negative", "negative", "surprise", None, None, None]


@pytest.mark.parametrize("key", ["sub04/EP12_01f", "sub05/EP09_05f"])
def test_the_two_clips_that_megc2019_leaves_out_have_a_class_only_in_five_and_seven(key):
    one = clip("casme2", *key.split("/"), "disgust")
    found = [casme2.label(one, casme2.Options(classes=count)) for count in (3, 5, 7)]
    assert found == [None, "disgust", "disgust"]


def test_the_clip_that_a_known_error_drops_stays():
    one = clip("casme2", "sub05", "EP12_03f", "surprise")
    assert casme2.label(one, casme2.Options(classes=3)) == "surprise"


@pytest.mark.parametrize("protocol", [megc2019, hde])
def test_the_composites_know_the_words_of_casme3(protocol):
    words = ("happy", "Sad", "anger", "surprise", "others")
    found = [protocol.label(clip("casme3", "s", "a", word), protocol.Options()) for word in words]
    assert found == ["positive", "negative", "negative", "surprise", None]


def test_casme3_speaks_the_corpus_words_and_the_common_ones():
    options = casme3_protocol.Options(classes=7)
    found = [casme3_protocol.label(clip("casme3", "s", "a", word), options) for word in ("happy", "Sad", "Others")]
    assert found == ["happiness", "sadness", "others"]
    assert casme3_protocol.label(clip("casme3", "s", "a", "others"), casme3_protocol.Options()) is None


@pytest.mark.parametrize(
    ("protocol", "corpus"), [(casme2, "casme2"), (samm, "samm"), (casme3_protocol, "casme3"), (dfme_protocol, "dfme")]
)
def test_clips_of_other_corpora_are_dropped(protocol, corpus):
    for other in {"casme2", "samm", "smic", "casme3", "dfme"} - {corpus}:
        assert protocol.label(clip(other, "s", "a", "surprise"), protocol.Options()) is None
    assert protocol.label(clip(corpus, "s", "a", "surprise"), protocol.Options()) == "surprise"


@pytest.mark.parametrize("protocol", [casme2, samm, casme3_protocol, dfme_protocol])
def test_the_coarse_classes_are_those_of_megc2019(protocol):
    assert protocol.classes(protocol.Options(classes=3)) == COARSE


@pytest.mark.parametrize("protocol", [casme2, samm, casme3_protocol, dfme_protocol])
def test_another_number_of_classes_is_refused(protocol):
    with pytest.raises(ValueError, match="Input should be"):
        protocol.Options(classes=6)


def test_a_random_split_of_too_few_clips_is_refused():
    options = casme2.Options(classes=7, subject_overlap=True)
    clips = [clip("casme2", "s1", "a", "fear"), clip("casme2", "s2", "b", "disgust")]
    with pytest.raises(UserError, match="six clips of a class"):
        casme2.folds(clips, {one.key: place for place, one in enumerate(clips)}, options, 0)


def test_a_random_split_changes_with_the_seed_and_not_with_the_order():
    options, kept, labels = labelled(casme2, people("casme2", ["disgust", "surprise"] * 5), subject_overlap=True)
    first, again, other = (casme2.folds(some, labels, options, seed)[0] for some, seed in (
        (kept, 1), (kept[::-1], 1), (kept, 2)))  # fmt: skip
    assert set(first.tested) == set(again.tested) != set(other.tested)
    assert len(first.train) == 32


def test_dfme_tests_only_the_parts_that_are_asked_for():
    options, kept, labels = labelled(dfme_protocol, people("dfme", ["anger"], ("train", "A", "B")), parts=("B",))
    (fold,) = dfme_protocol.folds(kept, labels, options, 0)
    assert list(fold.test) == ["B"]
    assert all(key.startswith("dfme/s") and "B/" in key for key in fold.tested)


def test_dfme_without_a_part_says_which():
    options, kept, labels = labelled(dfme_protocol, people("dfme", ["anger"], ("train", "A")))
    with pytest.raises(UserError, match="part 'B'"):
        dfme_protocol.folds(kept, labels, options, 0)


def test_dfme_refuses_a_subject_on_both_sides():
    clips = [*people("dfme", ["anger"], ("train", "A", "B")), clip("dfme", "s0train", "again", "fear", "A")]
    options, kept, labels = labelled(dfme_protocol, clips)
    with pytest.raises(UserError, match="dfme/s0train on both sides"):
        dfme_protocol.folds(kept, labels, options, 0)


def test_dfmes_validation_share_leaves_someone_to_train():
    clips = [one for one in people("dfme", ["anger"], ("train", "A", "B")) if one.subject not in ("s2train", "s3train")]
    for share in (0.01, 0.99):
        options, kept, labels = labelled(dfme_protocol, clips, valid_share=share)
        (fold,) = dfme_protocol.folds(kept, labels, options, 0)
        assert (len(fold.train), len(fold.valid)) == (1, 1)
    alone = [one for one in clips if one.subject != "s1train"]
    options, kept, labels = labelled(dfme_protocol, alone, valid_share=0.5)
    with pytest.raises(UserError, match="two training subjects"):
        dfme_protocol.folds(kept, labels, options, 0)


# --- groups of subjects


def uneven():
    """Twelve subjects with one to twelve clips."""
    return [
        clip("simulated", f"s{subject:02d}", f"{index:02d}", COARSE[index % 3])
        for subject in range(1, 13)
        for index in range(subject)
    ]


def test_groups_hold_whole_subjects_and_about_as_many_clips():
    options, kept, labels = labelled(loso, uneven(), groups=4)
    folds = loso.folds(kept, labels, options, 0)
    assert [fold.name for fold in folds] == ["group1", "group2", "group3", "group4"]
    sizes = [len(fold.tested) for fold in folds]
    assert sum(sizes) == 78
    assert max(sizes) - min(sizes) <= 12, "no group is ahead by more than its last subject"
    subjects = [{key.rpartition("/")[0] for key in fold.tested} for fold in folds]
    assert sum(map(len, subjects)) == len(set.union(*subjects)) == 12


def test_another_seed_deals_anew():
    options, kept, labels = labelled(loso, uneven(), groups=4)
    dealt = [frozenset(frozenset(fold.tested) for fold in loso.folds(kept, labels, options, seed)) for seed in range(5)]
    assert len(set(dealt)) > 1


def test_more_groups_than_subjects_are_refused():
    options, kept, labels = labelled(loso, uneven(), groups=13)
    with pytest.raises(UserError, match=r"want at least protocol\.groups = 13 subjects, got 12"):
        loso.folds(kept, labels, options, 0)
