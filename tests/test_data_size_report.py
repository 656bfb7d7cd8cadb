"""From made-up records with known truth to the report; and every number of notebook 04 and README from the committed records."""
import math
import re

import pytest

from data_size_records import run, several
from rftlab import data_size_report as report_module
from rftlab import records
from rftlab.data_size_report import Report, comparisons
from rftlab.notebooks import ROOT
from rftlab.significance import holm, paired

RECORDED = (records.results_folder() / "data-size").is_dir()
RFT, SFT = [0.9, 0.92, 0.88, 0.9], [0.5, 0.56, 0.47, 0.51]
REPORT = Report([*several("rft", 10, RFT, validation=[0.3, 0.8, 0.7], seconds=2.0),
                 *several("sft-solutions", 10, SFT, validation=[0.4, 0.6], seconds=0.5),
                 *several("sft-answers", 10, [0.2] * 4, validation=[0.1, 0.1]),
                 *several("rft", 100, [1.0] * 4, validation=[1.0]), *several("few-shot", 10, [0.1]), run("base", 0, 0, 0.2)])


def test_what_is_there():
    assert REPORT.groups() == [("tiny", "arithmetic")]
    assert REPORT.sizes("tiny", "arithmetic") == [10, 100] and REPORT.sizes("tiny", "arithmetic", "sft-answers") == [10]
    assert REPORT.arms("tiny", "arithmetic") == ["base", "few-shot", "sft-answers", "sft-solutions", "rft"]
    assert REPORT.arms("tiny", "arithmetic", 100) == ["base", "rft"]
    assert REPORT.seeds() == (4, 4)
    assert REPORT.step() == 1 / 200 and REPORT.step("larger") == 1 / 100


def test_means_by_hand():
    rft = REPORT.estimate("tiny", "arithmetic", "rft", 10)
    assert (rft.mean, rft.n) == (pytest.approx(0.9), 4)
    half = 3.182446 * 0.0163299 / 2  # t(0.975, 3), standard deviation, root of 4
    assert (rft.low, rft.high) == pytest.approx((0.9 - half, 0.9 + half), abs=1e-5)
    assert REPORT.estimate("tiny", "arithmetic", "base", 10).mean == 0.2
    assert REPORT.estimate("tiny", "arithmetic", "rft", 50) is None
    assert REPORT.curve("tiny", "arithmetic", "rft")[0] == [10, 100]


def test_differences_are_paired_by_seed_even_when_seeds_are_missing():
    partial = Report([r for r in REPORT.runs if not (r.arm == "rft" and r.seed == 1)])
    assert partial.differences("tiny", "arithmetic", 10, "rft", "sft-solutions") == pytest.approx([0.4, 0.41, 0.39])
    assert REPORT.differences("tiny", "arithmetic", 10, "rft", "base") == pytest.approx([v - 0.2 for v in RFT])
    assert REPORT.differences("tiny", "arithmetic", 100, "rft", "sft-answers") == []


def test_comparisons_are_corrected_over_all_of_them():
    found = {(c.size, c.other): c for c in comparisons(REPORT)}
    assert set(found) == {(10, "base"), (10, "few-shot"), (10, "sft-answers"), (10, "sft-solutions"), (100, "base")}
    assert found[10, "sft-solutions"].test == paired([a - b for a, b in zip(RFT, SFT)], 0.005)
    assert [c.p_holm for c in found.values()] == holm([c.test.p for c in found.values()])
    assert found[10, "sft-solutions"].verdict == found[100, "base"].verdict == "better"
    assert found[10, "few-shot"].verdict == "one seed"
    same = Report([*several("rft", 10, SFT), *several("sft-answers", 10, [0.52, 0.5, 0.53, 0.49])])
    assert {c.other: c.verdict for c in comparisons(same)}["sft-answers"] == "no difference shown"


def test_the_opponent_is_chosen_on_validation_not_on_test():
    runs = Report([*several("sft-answers", 10, [0.9, 0.9], validation=[0.3]), *several("sft-solutions", 10, [0.1, 0.1], validation=[0.4])])
    assert runs.better_sft("tiny", "arithmetic", 10) == "sft-solutions"
    assert runs.better_sft("tiny", "arithmetic", 50) is None


def test_costs_by_hand():
    rft, sft = run("rft", 10, 0, 0.9, validation=[0.3, 0.8, 0.7], seconds=2.0), run("sft-answers", 10, 0, 0.5, validation=[0.4, 0.6])
    assert report_module.costs(rft) == [(2.0, 640.0), (4.0, 1280.0), (6.0, 1920.0)]  # 10 tokens x 8 prompts x 8 samples
    assert report_module.total_cost(sft) == (2.0, 160.0)                             # 10 tokens x 8 targets
    assert report_module.best_within(rft, seconds=3.9) == 0.3 and report_module.best_within(rft, tokens=1280) == 0.8
    assert report_module.best_within(rft, seconds=1) == 0.2  # nothing evaluated in time: as before training
    assert report_module.best_validation(rft) == 0.8
    rejection = run("rejection", 10, 0, 0.5, validation=[0.4])
    rejection.notes.update(seconds_sampling=3.0, tokens_sampled=500)
    assert report_module.costs(rejection) == [(4.0, 580.0)]


def test_equal_compute_by_hand():
    rows = {row["arm"]: row for row in report_module.equal_compute(REPORT, "tiny", "arithmetic", 10)}
    assert rows["rft"]["seconds"] == 6.0 and rows["rft"]["tokens"] == 1920 and rows["rft"]["in_seconds"].mean == 0.8
    assert rows["sft-solutions"]["seconds"] == 1.0 and rows["sft-solutions"]["in_seconds"].mean == 0.6
    slow = Report([*several("rft", 10, [0.9], validation=[0.8]), *several("sft-answers", 10, [0.9], validation=[0.3, 0.9])])
    assert {r["arm"]: r["in_seconds"].mean for r in report_module.equal_compute(slow, "tiny", "arithmetic", 10)} == {
        "rft": 0.8, "sft-answers": 0.3}  # its second step came too late


def test_the_share_that_is_format_only():
    # 0.1 of 0.2 well-formed answers are right, a half. Well formed rises to 0.6, so form alone makes 0.3 of 0.6: half the gain
    options = {"before": 0.1, "well_formed": 0.6, "well_formed_before": 0.2}
    half = Report(several("rft", 10, [0.5, 0.5], **options))
    assert report_module.format_share(half, "tiny", "arithmetic", "rft", 10) == pytest.approx(0.5)
    assert report_module.format_share(Report(several("rft", 10, [0.1, 0.1], **options)), "tiny", "arithmetic", "rft", 10) is None
    unformed = Report(several("rft", 10, [0.5], before=0.0, well_formed_before=0.0))
    assert report_module.format_share(unformed, "tiny", "arithmetic", "rft", 10) is None


def test_rows_needed():
    grown = Report([r for size, value in ((1, 0.25), (10, 0.8), (100, 0.85)) for r in several("rft", size, [value] * 2)])
    assert report_module.rows_needed(grown, "tiny", "arithmetic", "rft") == 10  # a gain of 0.6 is 92 % of 0.65
    assert report_module.rows_needed(grown, "tiny", "arithmetic", "rft", share=0.95) == 100
    flat = Report(several("rft", 10, [0.25, 0.25]))
    assert report_module.rows_needed(flat, "tiny", "arithmetic", "rft") is None


def test_the_table_says_what_is_there_and_publish_changes_nothing_else(tmp_path):
    lines = report_module.table(REPORT, "tiny", "arithmetic")
    assert lines[0] == "| arithmetic, `tiny` | n = 10 | n = 100 |"
    assert "| base | 0.20 | 0.20 |" in lines and "| rft | 0.90 ± 0.03 | 1.00 ± 0.01 |" in lines and "| few-shot | 0.10 |  |" in lines
    for one in REPORT.runs:
        one.save(tmp_path / "data" / "results" / "data-size" / f"{one.arm}-{one.size}-{one.seed}.json")
    (tmp_path / "README.md").write_text("before\n<!-- data-size -->\nold\n<!-- /data-size -->\nafter\n")
    report_module.publish(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text and lines[0] in text
    assert f"{len(REPORT.runs)} runs" in text


# --- the committed records ----------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def committed():
    if not RECORDED:
        pytest.skip("data-size has no records yet")
    return Report.load()


def test_summary_says_for_each_model_how_many_seeds():
    more = [*several("rft", 10, [0.5, 0.6], model="smollm2"), run("rft", 50, 0, 0.7, model="smollm2")]
    text = report_module.summary(Report([*REPORT.runs, *more]))
    assert "over seeds, 4 on `tiny`, 1 to 2 on `smollm2`;" in text and "| rft | 0.55 ± 0.55 | 0.70 |" in text


def test_readme_shows_the_records(committed):
    text = (ROOT / "README.md").read_text()
    assert text.split("<!-- data-size -->")[1].split("<!-- /data-size -->")[0].strip() == report_module.summary(committed)


def test_every_mean_of_the_readme_comes_out_of_the_files_by_another_way(committed):
    """Read the JSON directly and average: no code of the report."""
    import json

    block = (ROOT / "README.md").read_text().split("<!-- data-size -->")[1].split("<!-- /data-size -->")[0]
    checked, task, model, sizes = 0, None, None, []
    for line in block.splitlines():
        head = re.match(r"\| (\w+), `(\w+)` \|", line)
        if head:
            task, model = head.groups()
            sizes = [int(n) for n in re.findall(r"n = (\d+)", line)]
        row = re.match(r"\| ([a-z-]+) \| (.*) \|$", line)
        if not row or head or row[1] == "base":
            continue
        for size, cell in zip(sizes, row[2].split(" | ")):
            paths = list((records.results_folder() / "data-size").glob(f"{model}-{task}-{row[1]}-n{size}-seed*.json"))
            values = [json.loads(p.read_text())["final"]["accuracy"]["mean"] for p in paths]
            assert bool(cell.strip()) == bool(values), f"{line}: {size}"
            if values:
                assert math.isclose(float(cell.split()[0]), sum(values) / len(values), abs_tol=0.00501), f"{line}: {size}"
                checked += 1
    assert checked > 10


def notebook_texts():
    """What the stored outputs of notebook 04 say."""
    import nbformat

    notebook = nbformat.read(ROOT / "notebooks" / "04_rft_vs_sft.ipynb", as_version=4)
    return [output.text for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs if output.output_type == "stream"]


def test_the_notebook_shows_the_tables_and_verdicts_of_the_committed_records(committed):
    """When records arrive: publish() and `make record NB=04`."""
    from rftlab import deck_claims

    shown = "\n".join(notebook_texts())
    for group in committed.groups():
        assert "\n".join(report_module.table(committed, *group)) in shown, f"the table of {group} is not that of the records"
    others = {name: Report.load(name) if (records.results_folder() / name).is_dir() else None for name in ("label-noise", "long-run")}
    noise = {}
    for one in others["label-noise"].runs if others["label-noise"] else ():
        noise.setdefault(one.config["noise"], []).append(one)
    claims = deck_claims.claims(committed, {share: Report(runs) for share, runs in noise.items()}, others["long-run"])
    for claim in claims:
        assert str(claim) in shown, f"the notebook's verdict on {claim.name!r} is not that of the records"
    counted = sum(claim.verdict == "confirmed" for claim in claims)
    assert f"{counted} of {len(claims)} claims confirmed" in shown


def test_every_difference_in_the_notebook_comes_out_of_the_files_by_another_way(committed):
    """The cell-by-cell lines "size task RFT minus ...": recomputed from the JSON files with numpy and scipy."""
    import json

    import numpy as np
    from scipy import stats

    def accuracies(task, arm, size):
        paths = (records.results_folder() / "data-size").glob(f"tiny-{task}-{arm}-n{size}-seed*.json")
        return {p.stem.rsplit("seed", 1)[1]: json.loads(p.read_text())["final"]["accuracy"]["mean"] for p in paths}

    lines = re.findall(r"^ +(\d+)  (\w+) +([+-]\d\.\d\d)(?: \[([+-]\d\.\d\d), ([+-]\d\.\d\d)\]|, 1 seed) .*?([a-z-]+): [a-z ]+$",
                       "\n".join(notebook_texts()), re.MULTILINE)
    assert len(lines) >= 5
    for size, task, mean, low, high, other in lines:
        ours, theirs = accuracies(task, "rft", size), accuracies(task, other, size)
        values = np.array([ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())])
        assert float(mean) == pytest.approx(values.mean(), abs=0.00501)
        assert bool(low) == (len(values) > 1)
        if low:
            error = max(values.std(ddof=1), 1 / 200) / np.sqrt(len(values))
            expected = stats.t.interval(0.95, len(values) - 1, values.mean(), error)
            assert (float(low), float(high)) == pytest.approx(expected, abs=0.00501)
