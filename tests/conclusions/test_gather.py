from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from safedl.conclusions.gather import conclude, experiments_of, family
from safedl.decision.answers import Answer
from safedl.events import event
from safedl.plan import Stage
from safedl.profile.load import load, parse
from safedl.profile.schema import Profile
from safedl.store import queries
from safedl.store.remove import remove_run
from safedl.store.results import latest_experiment
from tests.conclusions.measured import METRICS, PROFILE, check, measure, ran, said
from tests.store import samples
from tests.store.samples import Workplace

Alike = Callable[[str, str], Profile]


def test_a_profile_that_was_measured(work: Workplace) -> None:
    ran(work)
    found = said(work)
    assert found.experiment is not None
    assert found.experiment.record.uid == "e1"
    assert {p.status for p in found.facts.planned} == {"completed"}
    assert found.facts.baseline["clean_accuracy"] == pytest.approx(0.9795)
    patch, flips = (
        next(o for o in found.facts.outcomes if o.risk.attack == n) for n in ("static_patch", "label_flipping")
    )
    assert patch.risk.effective and not flips.risk.effective
    assert patch.best is not None and patch.best.defense == "spectral_signatures"
    assert patch.residual.risk_score < 0.1 < patch.risk.risk_score
    assert len(patch.risk.runs) == 2
    assert found.decision.go, found.verdict
    assert found.verdict.startswith("GO: ")
    covered = next(i for i in found.decision.checklist if i.id == "threats_covered")
    assert len(covered.evidence) == 2 * 2, "both attacks on both seeds"
    assert check(found, "versions_recorded") == ("pass", "code 0.1.0; data ffffffffffff")
    assert found.classes == ("0", "1")
    assert found.system["seeds"] == [0, 1]


def test_a_scan_of_the_profile_hides_none_of_its_runs(work: Workplace) -> None:
    ran(work)
    before = said(work)
    scan = samples.run("scan-1", "scan", attack=None, category=None, experiment="e2", stage="scan@0")
    work.begin(samples.experiment("e2", name="small"), [scan])
    work.apply(samples.finished("scan-1", {"suspects": 3.0}))
    after = said(work)
    assert after.experiment == before.experiment and after.decision == before.decision
    assert latest_experiment(work.db, "small") == "e1"
    assert [e.record.uid for e in queries.experiments(work.db)] == ["e2", "e1"]


def test_a_scan_whose_run_was_deleted_hides_none_either(work: Workplace) -> None:
    ran(work)
    before = said(work)
    scan = samples.run("scan-1", "scan", attack=None, category=None, experiment="e2", stage="scan@0")
    work.begin(samples.experiment("e2", name="small", config={"options": {"scan": True}}), [scan])
    work.apply(samples.finished("scan-1", {"suspects": 3.0}))
    remove_run(work.db, "scan-1")
    assert said(work).decision == before.decision
    assert latest_experiment(work.db, "small") == "e1"


@pytest.mark.parametrize("defended", [True, False])
def test_a_backdoor_that_takes_hold_on_one_seed_is_judged_by_that_seed(work: Workplace, defended: bool) -> None:
    """The mean ASR over the seeds is 0.19, under every limit."""

    def once(stage: Stage) -> dict[str, float]:
        found = measure(stage)
        if stage.attack == "static_patch" and "asr" in found:
            left = found["asr"] if defended and stage.defense == "spectral_signatures" else 0.55
            found["asr"] = left if stage.seed == 0 else 0.01
        return found

    ran(work, seeds=(0, 1, 2), measure=once)
    found = said(work)
    patch = next(o for o in found.facts.outcomes if o.risk.attack == "static_patch")
    assert patch.risk.effective and patch.ranking is not None and patch.ranking.effective
    assert patch.risk.severity >= 0.55
    assert "the worst of 3 seeds, effective on 1" in patch.risk.reasons[0]
    assert patch.attacked["asr"] == pytest.approx(0.19)
    assert (patch.best is not None) is defended
    status, detail = check(found, "max_asr")
    assert (status, detail[:9]) == (("pass", "largest A") if defended else ("fail", "ASR 0.550"))


def test_advice_names_what_was_measured_first(work: Workplace) -> None:
    ran(work)
    advice = said(work).advice["static_patch"]
    best = advice.recommended[0]
    assert best.defense == "spectral_signatures"
    assert best.evidence is not None and best.evidence.seeds == 2
    assert {r.defense for r in advice.unhelpful} == {"activation_clustering", "anomaly_detection"}
    assert said(work).advice["label_flipping"].recommended == ()


def test_advice_says_what_the_comparison_of_the_profile_says(work: Workplace) -> None:
    """The store holds the defense with other parameters too, on more seeds and to greater effect."""
    ran(work, uid="e0", seeds=(0, 1, 2))
    tuned = PROFILE.replace("static_patch: {defenses", "static_patch: {spectral_signatures: {threshold: 0.7}, defenses")

    def weaker(stage: Stage) -> Mapping[str, float]:
        return measure(stage) | ({"asr": 0.6} if stage.defense == "spectral_signatures" else {})

    ran(work, tuned, seeds=(0,), measure=weaker)
    found = said(work, tuned)
    (ranking,) = (r for r in found.rankings if r.attack == "static_patch")
    assert ranking.best is not None
    advised = found.advice["static_patch"].recommended[0]
    assert advised.evidence is not None
    assert advised.evidence.score == ranking.best.mean("score.final")
    assert (advised.evidence.runs, advised.evidence.seeds) == (ranking.best.runs, 1)


def test_advice_of_the_family_counts_where_the_data_set_has_none(work: Workplace) -> None:
    other = PROFILE.replace("name: digits", "name: kmnist").replace("small", "other")
    mnist = PROFILE.replace("name: digits", "name: mnist")
    mnist = mnist.replace("[activation_clustering, spectral_signatures, anomaly_detection]", "[anomaly_detection]")
    ran(work, other, uid="e0", seeds=(0, 1, 2))
    ran(work, mnist, seeds=(0,))
    advice = said(work, mnist).advice["static_patch"]
    assert advice.recommended[0].evidence is not None
    assert advice.recommended[0].evidence.dataset == "kmnist"
    own = next(r for r in advice.unhelpful if r.defense == "anomaly_detection")
    assert own.evidence is not None and own.evidence.dataset == "mnist"
    assert family("kmnist") == ("mnist", "fashionmnist", "kmnist", "emnist")
    assert family("my photos") == ("my photos",)


def test_a_profile_that_never_ran_is_no_go(work: Workplace) -> None:
    found = said(work)
    assert (found.experiment, found.facts.outcomes, found.rankings) == (None, (), ())
    assert not found.decision.go
    assert check(found, "attacks_run") == ("fail", "not completed: static_patch@0, label_flipping@0")
    without_store = conclude(work.db.with_name("none.db"), work.results, parse(PROFILE))
    assert without_store.decision == found.decision


def test_the_latest_experiment_counts(work: Workplace) -> None:
    ran(work)

    def leaky(stage: Stage) -> Mapping[str, float]:
        return measure(stage) | ({"asr": 0.9} if stage.defense == "spectral_signatures" else {})

    ran(work, uid="e2", seeds=(0,), measure=leaky)
    found = said(work)
    assert found.experiment is not None and found.experiment.record.uid == "e2"
    assert check(found, "max_asr")[0] == "fail"
    assert [p.experiment for p in found.history] == ["e1", "e2"]
    assert set(found.history[0].scores) == {"static_patch", "label_flipping"}


def test_what_the_profile_no_longer_says_does_not_count(work: Workplace) -> None:
    ran(work, seeds=(0,))
    changed = said(work, PROFILE.replace("target_class: 2", "target_class: 3"))
    stages = {p.stage: p.status for p in changed.facts.planned}
    assert (stages["static_patch@0"], stages["label_flipping@0"]) == ("not run", "completed")
    assert not changed.decision.go
    stricter = said(work, PROFILE + "acceptance: {max_asr: 0.01}\n")
    assert check(stricter, "max_asr")[0] == "fail"


@pytest.fixture
def alike(work: Workplace, tmp_path: Path) -> Alike:
    """Two projects whose profiles read alike, down to the names of their files; what is returned runs one of them."""
    text = PROFILE.replace("{name: digits}", "{path: d.npz}")
    for project in ("one", "two"):
        (tmp_path / project).mkdir()
        (tmp_path / project / "d.npz").write_text(project)
        (tmp_path / project / "small.yaml").write_text(text)

    def run(project: str, uid: str) -> Profile:
        ran(work, text, uid, seeds=(0,))
        plan = work.results / "experiments" / uid / "plan.json"
        plan.write_text(json.dumps({**json.loads(plan.read_text()), "folders": [str(tmp_path / project)]}))
        return load(Path(shutil.copy(tmp_path / project / "small.yaml", plan.with_name("profile.yaml"))))

    return run


def test_runs_on_the_files_of_another_folder_do_not_count(work: Workplace, tmp_path: Path, alike: Alike) -> None:
    alike("one", "e1")
    one, two = (conclude(work.db, work.results, load(tmp_path / p / "small.yaml")) for p in ("one", "two"))
    assert one.decision.go and one.experiment is not None
    assert not two.decision.go and two.experiment is None


def test_an_experiment_that_is_resumed_is_judged_by_the_files_that_it_ran_on(work: Workplace, alike: Alike) -> None:
    resumed = alike("one", "e1")
    alike("two", "e2")
    found = conclude(work.db, work.results, resumed)
    assert found.experiment is not None and found.experiment.record.uid == "e1"


def test_many_experiments_of_another_folder_hide_none(
    work: Workplace, tmp_path: Path, alike: Alike, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safedl.conclusions.gather.PAST", 2)
    alike("one", "e1")
    for number in range(2, 6):
        alike("two", f"e{number}")
    for project, uids in (("one", ["e1"]), ("two", ["e5", "e4"])):
        found = experiments_of(work.db, work.results, load(tmp_path / project / "small.yaml"))
        assert [row.record.uid for row in found] == uids


def test_another_seed_than_the_one_that_ran_is_not_run(work: Workplace) -> None:
    """Unless the experiment was asked for seeds of its own: then these count, whatever the profile says."""
    ran(work, seeds=(0,))
    record = queries.experiments(work.db)[0].record
    edited = PROFILE + "training: {seed: 7}\n"
    for asked, go in ((None, False), ([0], True)):
        work.recorder.begin(replace(record, config={**record.config, "options": {"seeds": asked}}), [])
        assert said(work).decision.go
        assert said(work, edited).decision.go is go
        assert {p.stage for p in said(work, edited).facts.planned} >= {"static_patch@0" if go else "static_patch@7"}


def test_what_failed_is_missing_and_blocks(work: Workplace) -> None:
    ran(work, seeds=(0,), statuses={"static_patch/spectral_signatures@0": "failed", "label_flipping@0": "cancelled"})
    found = said(work)
    assert {o.risk.attack for o in found.facts.outcomes} == {"static_patch"}
    assert "static_patch/spectral_signatures@0 (failed)" in check(found, "runs_completed")[1]
    assert found.facts.outcomes[0].best is None
    assert check(found, "residual_risk")[0] == "fail"


def test_what_a_defense_cost_is_told_of_the_seeds_that_it_ran_on(work: Workplace) -> None:
    """The clean model of another seed, a worse one, must not make the fall look smaller."""

    def uneven(stage: Stage) -> Mapping[str, float]:
        worse = {"clean_accuracy": 0.88} if stage.seed == 1 and stage.kind == "baseline" else {}
        return measure(stage) | worse

    ran(work, measure=uneven, statuses={"static_patch/spectral_signatures@1": "failed", "label_flipping@1": "failed"})
    assert check(said(work), "accuracy_drop")[1].startswith("largest fall in clean accuracy 0.010 (static_patch")


def test_a_seed_on_which_the_best_defense_failed_is_undefended(work: Workplace) -> None:
    """Also where somebody waived that not every run completed."""
    from safedl.conclusions import notes

    ran(work, statuses={"static_patch/spectral_signatures@1": "failed"})
    notes.change(work.results, "small", "runs_completed", Answer(waiver="known", owner="me"))
    found = said(work)
    assert not found.decision.go
    after = "static_patch, after spectral_signatures, which completed on 1 of 2 seeds"
    assert check(found, "max_asr") == ("fail", f"ASR 0.960 ({after}), limit 0.2")
    assert check(found, "residual_risk")[0] == check(found, "robust_accuracy")[0] == "fail"
    patch = next(o for o in found.facts.outcomes if o.risk.attack == "static_patch")
    assert patch.residual.risk_score == patch.risk.risk_score
    assert len(patch.evidence) == 2


def test_an_attack_that_alters_nothing_covers_no_threat(work: Workplace) -> None:
    """A poison rate of 0 shows a detector's false alarms, and nothing of the threat."""

    def unpoisoned(stage: Stage) -> dict[str, float]:
        return measure(stage) | ({"poison_rate": 0.0} if stage.id == "label_flipping@0" else {})

    ran(work, seeds=(0,), measure=unpoisoned)
    found = said(work)
    assert not found.decision.go
    why = "nothing was altered, by a rate or budget of 0, or a change that no pixel shows"
    detail = f"no attack was run for: data_poisoning (label_flipping: {why})"
    assert check(found, "threats_covered") == ("fail", detail)
    other = PROFILE.replace("data_poisoning, model_stealing]", "evasion_attacks]")  # of which it says nothing
    assert check(said(work, other), "threats_covered") == ("fail", "no attack was run for: evasion_attacks")


def test_a_patch_that_no_image_shows_covers_no_threat(work: Workplace) -> None:
    """A white one on white paper."""

    def unseen(stage: Stage) -> dict[str, float]:
        nothing = {"asr": 0.02, "perturbation_linf": 0.0}
        return measure(stage) | (nothing if stage.id == "static_patch@0" else {"perturbation_linf": 0.5})

    ran(work, seeds=(0,), measure=unseen)
    status, detail = check(said(work), "threats_covered")
    assert (status, detail[:62]) == ("fail", "no attack was run for: backdoor_attacks (static_patch: nothing")


def test_nothing_is_shown_on_a_clean_model_that_guesses(work: Workplace) -> None:
    """Its training went wrong on one seed: the attack does no harm there, because there is none left to do."""

    def guessing(stage: Stage) -> dict[str, float]:
        found = measure(stage)
        if stage.seed == 1:
            found |= {"clean_accuracy": 0.5, "clean_accuracy.0": 1.0, "clean_accuracy.1": 0.0}
        return found | ({"asr": 0.0, "robust_accuracy": 0.5} if stage.seed == 1 and "asr" in found else {})

    ran(work, measure=guessing)
    found = said(work)
    assert not found.decision.go
    status, detail = check(found, "attacks_run")
    assert (status, detail[:57]) == ("fail", "the clean model does no better than chance on 1 of 2 seed")


def test_a_second_attempt_replaces_a_failed_one(work: Workplace) -> None:
    ran(work, seeds=(0,), statuses={"static_patch@0": "failed"})
    assert not said(work).decision.go
    ran(work, uid="e2", seeds=(0,))
    assert said(work).decision.go


def test_a_later_attempt_that_failed_hides_no_result(work: Workplace) -> None:
    ran(work, seeds=(0,))
    resumed(work, stage_key=None)
    work.apply([event("run", "again", status="failed", error="it broke")])
    assert queries.find_run(work.db, "again").status == "failed"
    assert check(said(work), "runs_completed")[0] == "pass"


@pytest.mark.parametrize("status", ["completed", "cancelled"])
def test_what_was_measured_before_the_data_changed_does_not_count(work: Workplace, status: str) -> None:
    """An experiment that is resumed then has both."""
    ran(work, seeds=(0,))
    resumed(work, stage_key="of the new data")
    new = samples.finished("again", METRICS["label_flipping"] | {"clean_accuracy": 0.5}, status)
    work.apply(new if status == "completed" else [e for e in new if e["event"] == "run"])
    found = said(work)
    flips = [o.risk for o in found.facts.outcomes if o.risk.attack == "label_flipping"]
    if status == "completed":
        assert flips[0].runs == ("again",) and flips[0].severity == 1.0
        assert found.history[0].scores["label_flipping"] == flips[0].risk_score
    else:
        assert not flips
        assert "label_flipping@0 (cancelled)" in check(found, "runs_completed")[1]


def resumed(work: Workplace, stage_key: str | None) -> None:
    """Let the experiment run its attack `label_flipping` again, as the run `again`; the other runs are linked."""
    experiment = queries.experiments(work.db)[0].record
    (flipped,) = queries.runs(work.db, kind="attack", attack="label_flipping")
    others = [r.record.uid for r in queries.runs(work.db, limit=100) if r.record.uid != flipped.record.uid]
    again = replace(flipped.record, uid="again", stage_key=stage_key or flipped.record.stage_key)
    work.begin(experiment, [again], others)


def test_answers_settle_and_waive(work: Workplace) -> None:
    from safedl.conclusions import notes

    ran(work, seeds=(0,))
    strict = PROFILE + "acceptance: {max_asr: 0.01}\n"
    assert not said(work, strict).decision.go
    notes.change(work.results, "small", "max_asr", Answer(waiver="known", owner="me"))
    notes.change(work.results, "small", "drift", Answer(done=True, note="weekly"))
    found = said(work, strict)
    assert found.decision.go
    assert (check(found, "max_asr")[0], check(found, "drift")[0]) == ("waived", "done")


def test_what_the_profile_names_and_cannot_be_simulated_is_settled_by_people(work: Workplace) -> None:
    """An attack of a threat that is listed already is no item of its own."""
    named = PROFILE.replace(
        "attack_overrides:", "attack_overrides:\n  privacy: {membership_inference: {}, model_extraction: {}}", 1
    )
    found = said(work, named)
    manual = [i.id for i in found.decision.checklist if i.id.startswith("not_simulated.")]
    assert manual == ["not_simulated.model_stealing", "not_simulated.membership_inference"]


def test_a_privacy_budget_is_read_from_the_run(work: Workplace) -> None:
    text = PROFILE.replace("[robust_loss]", "[dp_training]")

    def spent(stage: Stage) -> Mapping[str, float]:
        if stage.defense == "dp_training":
            return {**METRICS["robust_loss"], "epsilon_spent": 99.0}
        return measure(stage)

    ran(work, text, seeds=(0,), measure=spent)
    found = said(work, text)
    assert found.facts.budgets[0].spent == 99.0
    assert check(found, "dp_budget")[0] == "fail"


def test_files_that_are_gone_are_said_to_be_missing(work: Workplace) -> None:
    ran(work, seeds=(0,))
    (work.results / "runs" / "e1-00" / "result.json").write_text("{ torn")
    found = said(work)
    assert check(found, "versions_recorded")[0] == "fail"
    assert found.classes == ()
