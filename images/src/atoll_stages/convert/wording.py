"""Numbers with their nouns, for messages."""


def counted(count: int, noun: str) -> str:
    """`1 picture`, `2,000 pictures`, `2 boxes`."""
    ending = "" if count == 1 else "es" if noun.endswith(("s", "x")) else "s"
    return f"{count:,} {noun}{ending}"
