"""A stage's log as `atoll logs` prints it."""

import pytest

from atoll_cli.commands.logs import ReadableLines, lines_of, readable


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        (
            'ATOLL_PROGRESS {"ap50":0.878,"etaSeconds":142.6,"loss":0.7465,"message":"training","percent":98.3,'
            '"step":688,"totalSteps":700}',
            " 98%  training, step 688/700, loss 0.747, AP50 0.88, about 2 min left",
        ),
        ('ATOLL_PROGRESS {"message":"wrote train","percent":90,"pictures":84}', " 90%  wrote train"),
        ('ATOLL_PROGRESS {"percent":100}', "100%"),
        ("ATOLL_PROGRESS {torn", "ATOLL_PROGRESS {torn"),
        ("2027-01-09 INFO Completed: done", "2027-01-09 INFO Completed: done"),
    ],
)
def test_progress_is_a_sentence_and_every_other_line_is_unchanged(line: str, printed: str) -> None:
    assert readable(line) == printed


def test_a_line_that_two_chunks_share_is_one_line() -> None:
    text = "erste Zeile, größer\nzweite\nohne Ende".encode()
    for cut in range(len(text)):
        assert list(lines_of([text[:cut], text[cut:]])) == ["erste Zeile, größer", "zweite", "ohne Ende"]


def test_progress_that_says_the_same_again_is_one_line_and_other_lines_all_stay(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = 'ATOLL_PROGRESS {{"checkpointStep":{},"message":"training","percent":{},"step":18}}'
    lines = ReadableLines()
    lines.print([progress.format(0, 60), "a warning", progress.format(18, 60), "a warning"])
    lines.print([progress.format(18, 60), progress.format(18, 61)])
    printed = capsys.readouterr().out.splitlines()
    assert printed == [" 60%  training, step 18", "a warning", "a warning", " 61%  training, step 18"]
