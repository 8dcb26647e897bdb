"""Frames of a video stay together in a split; photographs that merely have numbers are divided one by one."""

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from PIL import Image, ImageDraw

from atoll_contract.convert_spec import Split
from support.archives import annotation, encoded, meta, packed, rectangle
from support.convert_stage import ConvertStage, Ended
from support.converted_records import records_of

WIDTH, HEIGHT = 96, 72
Pictures = Callable[[int], Iterable[Image.Image]]


def scene(seed: int, *, width: int = WIDTH) -> Image.Image:
    """A scene unlike that of any other seed: large blocks of random colours."""
    colours = np.random.default_rng(seed).integers(0, 256, (5, max(2, width // 20), 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((width, HEIGHT), Image.Resampling.BILINEAR)


def photographs(count: int) -> Iterable[Image.Image]:
    return (scene(seed) for seed in range(count))


def panned(count: int) -> Iterable[Image.Image]:
    """A film of a camera that turns, a tenth of the picture's width from frame to frame."""
    step = WIDTH // 10
    panorama = scene(7, width=WIDTH + step * count)
    return (panorama.crop((step * n, 0, step * n + WIDTH, HEIGHT)) for n in range(count))


def still(count: int) -> Iterable[Image.Image]:
    """A film of a camera that stands still, in which a ball rolls here and there."""
    places = np.random.default_rng(3).integers(0, WIDTH - 8, count)
    for place in places.tolist():
        frame = scene(5)
        ImageDraw.Draw(frame).ellipse((place, 40, place + 8, 48), fill="white")
        yield frame


def tilted(count: int, seed: int) -> Iterable[Image.Image]:
    """A short film of one scene."""
    return (scene(seed).rotate(number) for number in range(count))


def bursts(count: int) -> Iterable[Image.Image]:
    """Photographs, the first two of five of one motif, with a trembling hand."""
    for number in range(count):
        shift = 1 if number % 5 == 1 else 0
        yield scene(number - shift, width=WIDTH + 1).crop((shift, 0, shift + WIDTH, HEIGHT))


def export(*series: tuple[str, Iterable[Image.Image]], first: int = 0) -> bytes:
    files = {"game/meta.json": meta("note")}
    for name, pictures in series:
        for number, image in enumerate(pictures, start=first):
            files[f"game/ds0/img/{name}{number:05d}.jpg"] = encoded(image)
            label = [rectangle("note", 4, 5, 34, 40)]
            files[f"game/ds0/ann/{name}{number:05d}.jpg.json"] = annotation(label, size=(WIDTH, HEIGHT))
    return packed(files, ".tar")


def split_of_each(ended: Ended) -> dict[str, str]:
    """The part of each picture, by its name."""
    assert ended.code == 0, ended.message
    return {
        record["image/filename"][0].decode(): name
        for name, part in ended.dataset().splits.items()
        for record in records_of(ended.store, part)
    }


def share(parts: dict[str, str], part: str) -> float:
    return Counter(parts.values())[part] / len(parts)


@pytest.mark.parametrize("count", [40, 121, 200])
@pytest.mark.parametrize("seed", [0, 1])
def test_numbered_photographs_are_divided_as_asked(stage: ConvertStage, count: int, seed: int) -> None:
    ended = stage.put("x.tar", export(("photo-", photographs(count)))).run(split=Split(seed=seed))
    parts = split_of_each(ended)
    assert len(parts) == count
    assert 0.18 <= share(parts, "validation") <= 0.22


def test_photographs_are_divided_as_asked_among_three_parts(stage: ConvertStage) -> None:
    ended = stage.put("x.tar", export(("", photographs(150)), first=1)).run(
        split=Split(train=60, validation=20, test=20)
    )
    parts = split_of_each(ended)
    assert 0.18 <= share(parts, "validation") <= 0.22
    assert 0.18 <= share(parts, "test") <= 0.22


@pytest.mark.parametrize("film", [panned, still])
def test_the_frames_of_a_video_stay_in_blocks(stage: ConvertStage, film: Pictures) -> None:
    ended = stage.put("x.tar", export(("match_", film(200)))).run()
    parts = split_of_each(ended)
    blocks: dict[int, set[str]] = {}
    for name, part in parts.items():
        blocks.setdefault(int(name[-9:-4]) // 50, set()).add(part)
    assert [len(found) for _, found in sorted(blocks.items())] == [1, 1, 1, 1]


def test_a_video_beside_photographs_keeps_its_blocks(stage: ConvertStage) -> None:
    ended = stage.put("x.tar", export(("photo-", photographs(100)), ("match_", panned(100)))).run()
    parts = split_of_each(ended)
    films = {name: part for name, part in parts.items() if "match_" in name}
    assert len({part for name, part in films.items() if int(name[-9:-4]) < 50}) == 1
    assert len({part for name, part in films.items() if int(name[-9:-4]) >= 50}) == 1
    own = {part for name, part in parts.items() if "photo-" in name and int(name[-9:-4]) < 50}
    assert own == {"train", "validation"}


def test_short_videos_are_compared_with_all_pictures_of_the_archive(stage: ConvertStage) -> None:
    """Within ten frames of a scene any two look alike, neighbours or not."""
    films = [(f"match{letter}_", tilted(10, seed)) for seed, letter in enumerate("abcdefgh")]
    parts = split_of_each(stage.put("x.tar", export(*films)).run())
    by_film: dict[str, set[str]] = {}
    for name, part in parts.items():
        by_film.setdefault(name[:-9], set()).add(part)
    assert [len(found) for found in by_film.values()] == [1] * 8


def test_photographs_of_one_burst_stay_together(stage: ConvertStage) -> None:
    parts = split_of_each(stage.put("x.tar", export(("photo-", bursts(120)))).run())
    part_of = {int(name[-9:-4]): part for name, part in parts.items()}
    assert [part_of[number + 1] for number in range(0, 120, 5)] == [part_of[number] for number in range(0, 120, 5)]
    assert 0.18 <= share(parts, "validation") <= 0.22


def test_a_few_pictures_with_numbers_count_as_frames(stage: ConvertStage) -> None:
    """Ten pictures do not tell whether neighbours are more alike than others."""
    ended = stage.put("x.tar", export(("a_", photographs(5)), ("b_", panned(5)), ("c_", still(5)))).run()
    by_series: dict[str, set[str]] = {}
    for name, part in split_of_each(ended).items():
        by_series.setdefault(name[:-9], set()).add(part)
    assert [len(found) for found in by_series.values()] == [1, 1, 1]


def test_an_archive_that_is_added_leaves_photographs_in_their_parts(stage: ConvertStage) -> None:
    stage.put("x.tar", export(("photo-", photographs(100))))
    before = split_of_each(stage.run())
    stage.put("y.tar", export(("match_", panned(400))))
    after = split_of_each(stage.run())
    assert {name: part for name, part in after.items() if "photo-" in name} == before
