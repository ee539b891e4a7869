"""What was probably meant by a name that there is not."""

from __future__ import annotations

import pytest

from rmer.data.tables.text_tables import no_clip
from rmer.nearest import did_you_mean, nearest


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("trane", ["train", "main", "predict"], ["train"]),
        ("a2m2e", ["A2E", "A2M2E"], ["A2M2E"]),
        ("task-loss-weight", ["task_loss_weight"], ["task_loss_weight"]),
        ("song_1", ["song 1", "song 2"], ["song 1"]),
        ("zzz", ["train"], []),
        ("A2E,A2B2E", ["aA2B2E"], []),
        ("", ["a"], []),
    ],
)
def test_the_nearest_known_name(name: str, known: list[str], expected: list[str]) -> None:
    assert nearest(name, known) == expected


def test_a_question_for_those_that_have_a_neighbour() -> None:
    known = ["epochs", "epsilon", "seed"]
    assert did_you_mean(["sed", "zzz"], known, "There are 3") == "Did you mean seed? There are 3"
    assert did_you_mean(["zzz"], known, "There are 3") == "There are 3"
    assert did_you_mean(["zzz"], known) == ""
    assert did_you_mean(["epoch", "seeds"], known) == "Did you mean epochs, seed?"
    assert (
        did_you_mean(["epsilons"], ["epsilon", "epsilon_min"], most=2)
        == "Did you mean epsilon or epsilon_min?"
    )


@pytest.mark.parametrize(
    ("cell", "numbered", "said"),
    [
        ("a/b", False, "'a/b' is not a clip name for its '/': use letters, digits, blanks and _ - ."),
        ("-1", False, "'-1' is not a clip name"),
        ("-1", True, "'-1' is not a clip number"),
        ("song 1", True, "'song 1' is not a clip number (a column of file names is called clip)"),
    ],
)
def test_why_a_cell_names_no_clip(cell: str, numbered: bool, said: str) -> None:
    assert no_clip(cell, numbered=numbered) == said
