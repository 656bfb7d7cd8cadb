"""The experiment `lora`: its grid, one short run, and what is read off the records."""
import pytest

from rftlab import grids, lora_report, lora_sweep, records

GRID = grids.load("lora")


def test_the_grid_changes_one_thing_at_a_time():
    """From the centre, or from the centre on attention layers, with all weights, or with ten prompts."""
    assert len(GRID.points) == 250 and {p["seed"] for p in GRID.points} == set(range(10))
    for point in GRID.points:
        if point["targets"] != "full":
            changed = [k for k in ("arm", "rank", "rate", "alpha", "dropout") if point[k] != lora_report.CENTRE[k]]
            assert len(changed) <= 1 or point["targets"] == "attention" and set(changed) in ({"alpha", "dropout"}, {"rate", "alpha", "dropout"}), point


def test_the_targets_of_a_point():
    point = {"targets": "attention", "rank": 4, "alpha": 2, "dropout": 0.1}
    spec = lora_sweep.spec_of(point)
    assert (spec.rank, spec.alpha, spec.dropout) == (4, 8, 0.1) and set(spec.target_modules) == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert len(lora_sweep.spec_of({**point, "targets": "all"}).target_modules) == 7 and lora_sweep.spec_of({**point, "targets": "full"}) is None


@pytest.mark.parametrize("targets, rank, arm, trained", [("all", 1, "rft", 9728), ("full", 0, "rft-random", 869504)])
def test_a_short_run(targets, rank, arm, trained):
    point = {"arm": arm, "targets": targets, "rank": rank, "rate": 1e-4, "alpha": 2, "dropout": 0.0, "size": 4, "seed": 1}
    record = lora_sweep.run(point, {"level": 3, "steps": 1, "max_new_tokens": 8, "test": 4})
    assert record.config["trained"] == trained and record.config["rate"] == 1e-4 and (record.arm, record.size) == (arm, 4)
    assert record.final.keys() == {"accuracy", "general_loss", "accuracy_before", "general_loss_before", "train_accuracy"}
    assert record.final["general_loss_before"]["mean"] == pytest.approx(0.4463, abs=1e-3)


def made(**values):
    final = {name: {"mean": v, "low": v, "high": v, "n": 1} for name, v in values.items()}
    return type("Record", (), {"final": final})()


def test_differences_are_paired_by_seed():
    centre, deck = lora_report.setting(), lora_report.setting(targets="attention", alpha=1, dropout=0.1)
    report = lora_report.Report({
        centre: {0: made(accuracy=0.6, train_accuracy=0.7, general_loss=0.5, general_loss_before=0.4), 1: made(accuracy=0.5), 2: made(accuracy=0.9)},
        deck: {1: made(accuracy=0.3), 0: made(accuracy=0.5)}, lora_report.setting(rate=3e-3): {0: made(accuracy=1.0)}})
    found = report.difference({}, {"targets": "attention", "alpha": 1, "dropout": 0.1})
    assert found.n == 2 and found.mean == pytest.approx(0.15)
    assert report.best_rate() == (3e-3, 1.0, 1)  # over seed 0, the only one that both rates have
    assert report.mean(rank=4) is None and report.difference({}, {"rank": 4}) is None
    with pytest.raises(ValueError, match="no axis"):
        lora_report.setting(lr=1)


def test_gap_and_forgetting():
    one = made(accuracy=0.6, train_accuracy=0.7, general_loss=0.5, general_loss_before=0.4)
    report = lora_report.Report({lora_report.setting(): {3: one}})
    assert report.values("gap") == {3: pytest.approx(0.1)} and report.values("forgetting") == {3: pytest.approx(0.1)}


def test_the_records_are_of_this_grid_from_one_clean_commit():
    points = {GRID.path(p).name: p for p in GRID.points}
    runs = {path.name: records.RunRecord.load(path) for path in GRID.path(GRID.points[0]).parent.glob("*.json")}
    assert runs, "no record"
    assert len({r.commit for r in runs.values()}) == 1 and not any("+" in r.commit or "dirty" in r.commit for r in runs.values())
    for name, r in runs.items():
        point, settings = points[name], GRID.settings_of(points[name])
        assert (r.arm, r.size, r.seed) == (point["arm"], point["size"], point["seed"]) and r.config["steps"] == settings["steps"]
        assert all(r.config[k] == point[k] for k in ("targets", "rank", "rate", "alpha", "dropout"))
