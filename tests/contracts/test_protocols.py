"""What every protocol must do: no clip and no subject on both sides, nothing tested twice."""

import random
from collections import Counter
from pathlib import Path

import pytest

from fleeting import plugins
from fleeting.records import Clip, Fold

FRAMES = tuple(Path(f"{i}.png") for i in range(30))
CORPORA = ("casme2", "samm", "smic", "casme3", "dfme")
WORDS = (
    "happiness", "disgust", "surprise", "sadness", "fear", "anger", "contempt", "repression", "others",
    "positive", "negative",
)  # fmt: skip


def recordings():
    """Six subjects a corpus, eleven clips each; the corpora with parts have them."""
    parts = {"dfme": ("train", "train", "train", "train", "A", "B")}
    return [
        Clip(corpus, f"s{subject:02d}", f"{index:02d}", FRAMES, 100.0, 0, 10, 20, emotion=word,
             action_units=(str(1 + index), f"L{2 + index}"), part=parts.get(corpus, [""] * 6)[subject])
        for corpus in CORPORA
        for subject in range(6)
        for index, word in enumerate(WORDS)
    ]  # fmt: skip


@pytest.fixture(
    params=[*((name, {}) for name in plugins.names("protocols")), ("loso", {"groups": 4}), ("megc2019", {"groups": 3})],
    ids=str,
)
def chosen(request):
    return request.param


@pytest.fixture
def protocol(chosen):
    return plugins.load("protocols", chosen[0])


@pytest.fixture
def options(protocol, chosen):
    return protocol.Options(**chosen[1])


@pytest.fixture
def labelled(protocol, options):
    """The surviving clips and their classes."""
    number = {word: index for index, word in enumerate(protocol.classes(options))}
    words = {clip.key: protocol.label(clip, options) for clip in recordings()}
    kept = [clip for clip in recordings() if words[clip.key] is not None]
    return kept, {key: number[word] for key, word in words.items() if word is not None}


def group(key):
    return key.rpartition("/")[0]


def test_classes_are_words(protocol, options):
    classes = protocol.classes(options)
    assert len(set(classes)) == len(classes) >= 2
    assert all(isinstance(word, str) and word for word in classes)


def test_labels_are_classes_or_nothing(protocol, options, labelled):
    found = {protocol.label(clip, options) for clip in recordings()}
    assert found - {None} <= set(protocol.classes(options))
    assert set(labelled[1].values()) == set(range(len(protocol.classes(options))))


def test_a_clip_without_an_emotion_has_no_class(protocol, options):
    for emotion in (None, "", "?", "no such emotion"):
        clip = Clip("casme2", "s01", "a", FRAMES, emotion=emotion)
        assert protocol.label(clip, options) is None


def test_labels_do_not_depend_on_case_or_blanks(protocol, options):
    for clip in recordings():
        loud = Clip(clip.dataset, clip.subject, clip.name, FRAMES, emotion=f" {clip.emotion.upper()} ",
                    action_units=clip.action_units, part=clip.part)  # fmt: skip
        assert protocol.label(loud, options) == protocol.label(clip, options)


@pytest.mark.parametrize("seed", [0, 1, 45])
def test_no_clip_is_on_both_sides_or_tested_twice(protocol, options, labelled, seed):
    clips, labels = labelled
    folds = protocol.folds(clips, labels, options, seed)
    assert folds
    assert all(isinstance(fold, Fold) and fold.train and fold.tested for fold in folds)
    assert len({fold.name for fold in folds}) == len(folds)
    assert not any("~" in fold.name for fold in folds)
    keys = {clip.key for clip in clips}
    for fold in folds:
        assert {*fold.train, *fold.valid, *fold.tested} <= keys
        assert not set(fold.tested) & {*fold.train, *fold.valid}
        assert not set(fold.train) & set(fold.valid)
    tested = Counter(key for fold in folds for key in fold.tested)
    assert max(tested.values()) == 1
    if len(folds) > 1:  # one fold is a fixed or a random split, several are a cross-validation
        assert set(tested) == keys


@pytest.mark.parametrize("seed", [0, 1])
def test_no_subject_is_on_both_sides(protocol, options, labelled, seed):
    for fold in protocol.folds(*labelled, options, seed):
        train, valid, test = ({group(key) for key in keys} for keys in (fold.train, fold.valid, fold.tested))
        if not getattr(options, "subject_overlap", False):
            assert not test & (train | valid)
            assert not train & valid


def test_parts_are_the_same_in_every_fold_and_seed(protocol, options, labelled):
    """Results are pooled inside a part."""
    clips, labels = labelled
    parts = [{part for fold in protocol.folds(clips, labels, options, seed) for part in fold.test} for seed in (0, 1)]
    assert parts[0] == parts[1]
    assert all(parts[0])


def by_name(folds):
    return {
        fold.name: (set(fold.train), set(fold.valid), {part: set(keys) for part, keys in fold.test.items()})
        for fold in folds
    }


@pytest.mark.parametrize("seed", [0, 3])
def test_one_seed_one_split_whatever_the_order_of_the_rows(protocol, options, labelled, seed):
    clips, labels = labelled
    folds = protocol.folds(clips, labels, options, seed)
    assert folds == protocol.folds(clips, labels, options, seed)
    mixed = random.Random(5).sample(clips, len(clips))
    assert by_name(protocol.folds(mixed, labels, options, seed)) == by_name(folds)


def test_inputs_are_not_changed(protocol, options, labelled):
    clips, labels = labelled
    before = list(clips), dict(labels)
    protocol.folds(clips, labels, options, 0)
    assert (clips, labels) == before


def test_options_are_closed(protocol):
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        protocol.Options(no_such_option=1)
