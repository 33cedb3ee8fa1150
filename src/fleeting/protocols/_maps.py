"""Three coarse classes out of a corpus' own emotion words, for the protocols of single corpora."""

from fleeting.protocols import loso


def three(*negative: str) -> loso.Options:
    """negative, positive, surprise, as in MEGC2019.

    Args:
        negative: the words that become negative; happiness becomes positive, a word without an entry drops the clip.
    """
    words = dict.fromkeys(negative, "negative") | {"happiness": "positive", "happy": "positive"}
    return loso.Options(classes=("negative", "positive", "surprise"), map=words)
