"""The TrainingProfiles that the chart makes of its values."""

from __future__ import annotations

from atoll_cli.draft.targets import WEIGHTS_LABEL
from support.helm import render

OWN = "profiles.own.images.train=registry.example/own:1,profiles.own.allowTags=true"


def profiles(*settings: str) -> dict[str, dict[str, str]]:
    """The labels of each profile."""
    given = (f"--set-string={item}" for item in settings)
    documents = render("atoll", "--set=profiles.default.allowTags=true", f"--set={OWN}", *given)
    return {
        item["metadata"]["name"]: item["metadata"]["labels"] for item in documents if item["kind"] == "TrainingProfile"
    }


def test_a_profile_says_which_weights_the_train_image_of_the_chart_holds() -> None:
    labels = profiles("imagenetWeights=1.0")
    assert labels["default"][WEIGHTS_LABEL] == "1.0"
    assert WEIGHTS_LABEL not in labels["own"]


def test_without_weights_in_the_image_nothing_is_said() -> None:
    assert all(WEIGHTS_LABEL not in labels for labels in profiles().values())
