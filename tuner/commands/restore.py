"""``tuner restore``: put an endpoint back after a campaign that could not do it itself."""

from __future__ import annotations

import argparse
from pathlib import Path

from tuner.commands.interrupts import patient
from tuner.commands.session import restore
from tuner.commands.ui import Ui
from tuner.endpoints.records import RestoreRecord
from tuner.endpoints.sagemaker import SageMakerEndpoint
from tuner.store.lock import only_writer
from tuner.store.run import APPLY, CAMPAIGN, Run


def main(args: argparse.Namespace, ui: Ui) -> int:
    """Restore what the run's journal says was changed."""
    path = Path(args.run)
    purpose = APPLY if args.applied else CAMPAIGN
    with Run.open(path) as run, only_writer(path):
        left = run.unrestored(purpose)
        if not left:
            ui.result("nothing to restore: the endpoint was put back, or never changed")
            return 0
        profile = _profile(run)
        for record_id, text in left:
            record = RestoreRecord.from_json(text)
            ui.say(f"restoring {record.endpoint} / {record.variant} in {record.region}")
            driver = SageMakerEndpoint.from_record(record, profile=profile)
            with patient(ui, "putting the endpoint back as it was"):
                restore(driver, run, record_id, record, ui)
        if run.unrestored(purpose):
            return 1
    ui.result("restored")
    return 0


def _profile(run: Run) -> str | None:
    profile = run.meta()["endpoint"].get("profile")
    return None if profile is None else str(profile)
