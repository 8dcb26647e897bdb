"""What the operator costs a control plane: many TrainingRuns at once, beside bare chains of Jobs and Kubeflow's TFJobs.

    python tests/bench/control_plane.py [--runs 1000] [--only bare,shaped,…] [--deadline 600] [--json]

A real etcd, kube-apiserver, kube-controller-manager and kube-scheduler serve each side, one after the other. The pods
are KWOK's: each is done a second after it starts, and a stage's pod then leaves the result that the stage
contract asks for. A side is done when all of its chains are. Programs that are missing are built first (Go; 15 min).
"""

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import kubernetes.config

from cluster.audit import AuditLog, policy
from cluster.controlplane import ControlPlane
from cluster.crds import install
from cluster.kwok import KWOK, SCHEDULER, Kwok
from cluster.training_operator import TRAINING_OPERATOR
from support.load_bounds import check_bounds
from support.load_chains import CHAINS, BareChains, ShapedChains
from support.load_measurement import CpuSeconds, Measurement, measure, table
from support.load_sides import Atoll, Kubeflow, Side
from support.step_log import StepLog

SIDES = ("bare", "shaped", "atoll", "fifty", "kubeflow")
IN_FLIGHT = 50


def build(name: str, stack: ExitStack, plane: ControlPlane, api: kubernetes.client.ApiClient, runs: int) -> Side:
    """The side, at work until the stack ends."""
    if name == "bare":
        return stack.enter_context(BareChains(plane, api, "bare"))
    if name == "shaped":
        return stack.enter_context(ShapedChains(plane, api, "shaped"))
    if name == "kubeflow":
        return stack.enter_context(Kubeflow(plane, api, "tfjobs"))
    if name == "fifty":
        return stack.enter_context(Atoll(plane, api, "fifty", slots=IN_FLIGHT, title=f"Atoll, {IN_FLIGHT} in flight"))
    return stack.enter_context(Atoll(plane, api, "atoll", slots=runs))


def run(names: list[str], runs: int, deadline: float, steps: StepLog) -> dict[str, Measurement]:
    """Measures each side, each with its own control plane: thousands of finished pods of one would burden the next."""
    return {name: _alone(name, runs, deadline, steps) for name in names}


def _alone(name: str, runs: int, deadline: float, steps: StepLog) -> Measurement:
    with ExitStack() as stack:
        admins = (KWOK, SCHEDULER, CHAINS, TRAINING_OPERATOR)
        plane = stack.enter_context(ControlPlane(admins=admins, audit_policy=policy((CHAINS, TRAINING_OPERATOR))))
        api = stack.enter_context(kubernetes.config.new_client_from_config(str(plane.kubeconfig)))
        install(api)
        kwok = stack.enter_context(Kwok(plane, api))
        number = max(IN_FLIGHT, runs // 5) if name == "fifty" else runs
        side = build(name, stack, plane, api, number)
        log = AuditLog(plane.audit_log)
        others = [*(plane.pid(program) for program in ("etcd", "kube-controller-manager")), *kwok.pids]
        cpu = CpuSeconds(plane.pid("kube-apiserver"), others)
        measurement = measure(side, log, cpu, runs=number, deadline_seconds=deadline, notify=steps.add)
        kwok.check()
    steps.add(f"{measurement.title}: done in {measurement.seconds:.1f} s")
    return measurement


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=1000, help="chains of each side (default 1000)")
    parser.add_argument("--only", default=",".join(SIDES), help=f"some of {','.join(SIDES)}")
    parser.add_argument("--deadline", type=float, default=600, help="seconds for each side (default 600)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    names = options.only.split(",")
    if not set(names) <= set(SIDES):
        parser.error(f"--only {options.only}: allowed are {','.join(SIDES)}")
    measurements = run(names, options.runs, options.deadline, StepLog())
    if options.json:
        print(json.dumps({name: asdict(measurement) for name, measurement in measurements.items()}))
    else:
        print(table(list(measurements.values())))
    checks = check_bounds(measurements)
    print("\n".join(str(check) for check in checks), file=sys.stderr)
    return 1 if any(check.must and not check.met for check in checks) else 0


if __name__ == "__main__":
    sys.exit(main())
