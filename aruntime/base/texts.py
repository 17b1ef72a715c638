"""Where texts that come in pieces may still turn into something else."""


def beginning_of(word: str, text: str) -> int:
    """Where in `text`, which has no whole `word`, a beginning of one stands at its end; len(text) if nowhere."""
    place = text.find(word[0], max(0, len(text) - len(word) + 1))
    while place >= 0 and not word.startswith(text[place:]):
        place = text.find(word[0], place + 1)
    return place if place >= 0 else len(text)
