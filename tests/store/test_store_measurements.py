"""Measurements of other tools: requests become stages, sums become brackets or refusals."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from tuner.campaign.analyse import analyse
from tuner.campaign.published import LoadSummary, limit_of_summaries
from tuner.campaign.types import Routing
from tuner.cli import main
from tuner.errors import InputError
from tuner.slo import LatencyObjective, Slo, Verdict
from tuner.store.load_sums import summaries_of
from tuner.store.measured_columns import read_table
from tuner.store.measurements import stages_of

PUBLISHED = Path(__file__).parents[1] / "data/latency/aibrix_v0.2.1_naive_7_requests.csv.gz"
P95 = LatencyObjective(0.95, 15.0)


def mm4(rates_per_s: tuple[float, ...], seconds: float) -> str:
    """Requests of an M/M/4 queue with a mean service of 50 ms, by its own recursion."""
    rng = np.random.default_rng(11)
    lines = ["target_qps,scheduled_s,latency_ms,status"]
    offset = 0.0
    for rate in rates_per_s:
        arrival = np.cumsum(rng.exponential(1.0 / rate, int(rate * seconds)))
        free = [0.0] * 4
        for a, service in zip(arrival, rng.exponential(0.05, len(arrival)), strict=True):
            first = min(range(4), key=free.__getitem__)
            free[first] = max(free[first], a) + service
            lines.append(f"{rate},{offset + a:.6f},{(free[first] - a) * 1e3:.4f},200")
        offset += float(arrival[-1]) + 60.0
    return "\n".join(lines) + "\n"


def test_the_limit_of_a_known_queue_comes_out_of_a_file_of_requests() -> None:
    stages = stages_of(read_table(mm4((30.0, 45.0, 51.0, 56.0), 150.0), "mm4.csv"))
    assert [s.spec.rate_per_s for s in stages] == pytest.approx([30.0, 45.0, 51.0, 56.0], rel=0.05)
    slo = Slo((LatencyObjective(0.99, 0.3),))
    found = analyse(slo, stages, routing=Routing.RANDOM)
    assert found.verdict is Verdict.MET
    # 59.96/s holds p99 <= 0.3 s exactly (Erlang C).
    assert found.by_count[0].rate_per_s.low <= 59.96 <= found.by_count[0].rate_per_s.high


def test_a_published_sweep_gives_a_limit_between_the_loads_its_own_percentiles_show() -> None:
    table = read_table(gzip.decompress(PUBLISHED.read_bytes()).decode(), PUBLISHED.name)
    by_load: dict[float, list[float]] = {}
    for asked, latency in zip(table.numbers("target_qps"), table.numbers("latency_s"), strict=True):
        by_load.setdefault(float(asked), []).append(float(latency))
    p95 = {asked: float(np.quantile(v, 0.95)) for asked, v in by_load.items()}
    assert p95[2.5] < P95.threshold_s < p95[2.9]
    stages = stages_of(table, instance_count=8)
    found = analyse(Slo((P95,)), stages, routing=Routing.RANDOM)
    assert found.verdict is Verdict.MET
    sent = {s.health.asked_rate_per_s: s.spec.rate_per_s / 8.0 for s in stages}
    rate = found.by_count[0].rate_per_s
    assert rate.low <= sent[2.9]
    assert rate.high >= sent[2.5]
    assert 0.9 * sent[2.5] <= rate.mid <= 1.1 * sent[2.9]
    assert all(s.spec.arrivals == "constant" for s in stages[2:])


def test_an_import_makes_a_run_that_recommend_answers_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mm4.csv"
    file.write_text(mm4((30.0, 45.0, 51.0, 56.0), 100.0))
    run = tmp_path / "run"
    assert main(["import", str(file), "--out", str(run), "--slo-p99-ms", "300"]) == 0
    assert "by work recovery" in capsys.readouterr().out
    asked = ["recommend", str(run), "--no-report", "--json", "--instance-type", "ml.m5.xlarge"]
    assert main(asked) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "MET"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scheduled_s,latency_s\n" + "0,1\n" * 30, "all requests of a load start at once"),
        ("scheduled_s,done_s\n5,4\n", "ends before it starts"),
        ("rate,latency_s\n5,4\n", "neither requests nor sums"),
        ("scheduled_s,latency_s\n1,x\n", "is not a number"),
        ("scheduled_s,latency_s\n1\n", "1 cells and the header 2"),
        ("scheduled_s,latency_s\n", "has no rows"),
        ("concurrency,requests,latency_p99_s\n4,100,2\n", "closed-loop"),
    ],
)
def test_files_that_cannot_be_used_are_refused_with_the_reason(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(text)
    out = str(tmp_path / "run")
    assert main(["import", str(file), "--out", out, "--slo-p99-ms", "300"]) == 2
    assert said in capsys.readouterr().err
    assert not Path(out).exists()


def test_two_runs_of_one_load_are_not_mixed() -> None:
    one = "".join(f"{t},0.1\n" for t in range(40))
    with pytest.raises(InputError, match="go back to its start"):
        stages_of(read_table("scheduled_s,latency_s\n" + one + one, "two.csv"))


def test_a_load_that_was_not_sent_as_asked_is_void_and_users_who_wait_are_no_open_loop() -> None:
    rows = "".join(f"10,{t / 5},0.1\n" for t in range(200))
    (slow,) = stages_of(read_table("target_qps,scheduled_s,latency_s\n" + rows, "slow.csv"))
    assert slow.void
    assert "of the 10/s asked for" in slow.health.void_reasons[0]
    rows = "".join(f"8,{t / 5},0.1\n" for t in range(200))
    (users,) = stages_of(read_table("concurrency,scheduled_s,latency_s\n" + rows, "users.csv"))
    assert not users.health.open_loop


def test_failures_are_late_and_rows_without_an_end_are_failures() -> None:
    rows = "".join(f"{t / 5},0.1,{'500' if t % 10 == 5 else '200'}\n" for t in range(100))
    table = read_table("start_s,latency_s,status_code\n" + rows + "20,,200\n", "f.csv")
    (stage,) = stages_of(table, settle_s=0.0)
    assert stage.log is not None
    assert np.isinf(stage.log.latency_s()).sum() == stage.failures == 11


def test_sums_with_counts_of_late_requests_bracket_the_limit_and_say_what_they_assume() -> None:
    text = "qps,requests,late\n10,20000,20\n20,20000,60\n30,20000,900\n"
    objective = LatencyObjective(0.99, 0.2)
    loads = summaries_of(read_table(text, "sums.csv"), objective, instance_count=2)
    limit, gate = limit_of_summaries(loads, objective)
    assert limit is not None
    assert (limit.low, limit.high) == (10.0, 15.0)
    assert "15 independent" in gate.sentence
    # Were every request independent, 60 late of 20000 would hold 1 % all the more.
    closer, _ = limit_of_summaries(loads, objective, inflation=1.0)
    assert closer == limit


def test_percentiles_up_to_the_objective_itself_cannot_show_that_it_holds() -> None:
    loads = tuple(
        LoadSummary(1, rate, 50_000, ((0.5, 0.1), (0.99, p99)))
        for rate, p99 in ((10.0, 0.1), (20.0, 0.4))
    )
    limit, gate = limit_of_summaries(loads, LatencyObjective(0.99, 0.2))
    assert limit is None
    assert "nothing was published beyond p99" in gate.sentence
    further = tuple(
        LoadSummary(
            1, rate, 50_000, ((0.95, p95), (0.99, p99), (0.999, 0.18 if rate < 15 else 1.0))
        )
        for rate, p95, p99 in ((10.0, 0.05, 0.1), (20.0, 0.3, 0.4))
    )
    found, _ = limit_of_summaries(further, LatencyObjective(0.99, 0.2))
    assert found is not None
    assert (found.low, found.high) == (10.0, 20.0)
