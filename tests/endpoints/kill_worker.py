"""Forks a campaign for each journal path on standard input, so that a test can kill it.

Written to be run: ``python kill_worker.py URL ENDPOINT``. Answers ``ready``, then the process id
of each campaign; after another line it waits for its end and answers ``ended``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import botocore.loaders
import botocore.session

from tuner.endpoints.records import RestoreRecord
from tuner.endpoints.sagemaker import SageMakerEndpoint


def keep(path: Path, record: RestoreRecord) -> None:
    """As durable as a journal: whole or not at all, even under ``kill -9``."""
    draft = path.with_suffix(".draft")
    with draft.open("w", encoding="utf-8") as file:
        file.write(record.to_json())
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def campaign(url: str, name: str, journal: Path) -> None:
    endpoint = SageMakerEndpoint(name, endpoint_url=url, poll_interval_s=0.01, attempts=1)
    endpoint.freeze(lambda record: keep(journal, record))
    for count in (5, 2):
        endpoint.set_instance_count(count)
    endpoint.restore(RestoreRecord.from_json(journal.read_text("utf-8")))


def main() -> None:
    url, name = sys.argv[1:3]
    loader = botocore.loaders.create_loader()
    botocore.session.create_loader = lambda *_: loader
    SageMakerEndpoint(name, endpoint_url=url)
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            campaign(url, name, Path(line.strip()))
            os._exit(0)
        print(child, flush=True)
        sys.stdin.readline()
        os.waitpid(child, 0)
        print("ended", flush=True)


if __name__ == "__main__":
    main()
