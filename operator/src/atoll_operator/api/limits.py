"""What a run may ask of its TrainingProfile, which no rule of the CRD can see."""

from atoll_operator.api.types import TrainingProfileSpec, TrainingRunSpec


def violation(run: TrainingRunSpec, profile: TrainingProfileSpec, *, profile_name: str) -> str | None:
    """The first limit of `profile` that `run` exceeds, as a sentence; None where it keeps within all."""
    limits = profile.limits
    if run.training.steps > limits.max_steps:
        return (
            f"{run.training.steps} training steps exceed the {limits.max_steps} of TrainingProfile {profile_name}; "
            "copy the run with fewer, or ask the cluster's administrator to raise limits.maxSteps"
        )
    deadline = run.run_policy.active_deadline_seconds
    if deadline is not None and deadline > limits.active_deadline_seconds:
        return (
            f"a deadline of {deadline} s exceeds the {limits.active_deadline_seconds} s of TrainingProfile "
            f"{profile_name}; copy the run with a shorter one, or ask the cluster's administrator to raise "
            "limits.activeDeadlineSeconds"
        )
    return None
