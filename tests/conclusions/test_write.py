from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from safedl.conclusions.write import REPORT, write, write_report
from safedl.plan import expand
from safedl.profile.load import parse
from safedl.store.sql import query
from tests.conclusions.measured import PROFILE, measure, ran, said
from tests.store.samples import Workplace

DOCUMENTS = (
    "risk_analysis.json", "risk_report.md", "defense_evaluation.json", "defense_evaluation_report.md",
    "final_report.md",
)  # fmt: skip


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)]+)\)", text)


def test_every_document_is_written_and_every_link_leads_somewhere(work: Workplace) -> None:
    ran(work)
    write(work.results, said(work))
    for name in DOCUMENTS:
        text = (work.results / name).read_text()
        assert text.endswith("\n") and not text.endswith("\n\n")
        for address in links(text):
            assert (work.results / address).exists(), address
    pictures = {p.name for p in (work.results / "report_files").glob("*.png")}
    assert pictures == {
        "risk_matrix.png", "accuracy_asr_static_patch.png", "per_class_static_patch.png",
        "per_class_label_flipping.png",
    }  # fmt: skip
    report = (work.results / "final_report.md").read_text()
    assert {a.removeprefix("report_files/") for a in links(report) if a.endswith(".png")} == pictures
    assert "**GO**" in report


def test_pictures_are_drawn_again_only_if_their_figures_change(work: Workplace) -> None:
    ran(work)
    found = said(work)
    write(work.results, found)
    scatter, matrix = (work.results / "report_files" / n for n in ("accuracy_asr_static_patch.png", "risk_matrix.png"))
    drawn = scatter.read_bytes()
    scatter.write_bytes(b"kept")
    matrix.unlink()
    write(work.results, found)
    assert scatter.read_bytes() == b"kept" and matrix.exists()
    (work.results / "report_files" / "drawn.json").write_text('{"accuracy_asr_static_patch.png": "other figures"}')
    write(work.results, found)
    assert scatter.read_bytes() == drawn


def test_figures_agree_with_sql(work: Workplace) -> None:
    ran(work)
    write(work.results, said(work))
    evaluation = load(work.results / "defense_evaluation.json")["backdoor"]["static_patch"]
    rows = query(
        work.db,
        "SELECT defense, avg(score) AS final, avg(mitigation) AS mitigation, avg(cad) AS cad, avg(cost) AS cost, "
        "avg(clean_after) AS clean_accuracy, avg(asr_after) AS asr, avg(asr_delta) AS asr_delta "
        "FROM defense_results WHERE attack = 'static_patch' GROUP BY defense",
    ).as_dicts()
    assert len(rows) == 3
    for row in rows:
        stated = evaluation[row.pop("defense")]
        assert {name: stated[name] for name in row} == pytest.approx(row)
    risks = load(work.results / "risk_analysis.json")
    measured = query(
        work.db,
        "SELECT attack, avg(asr) AS asr, avg(clean_delta) AS fell FROM attack_results GROUP BY attack",
    ).as_dicts()
    severity = {row["attack"]: min((row["asr"] or 0) - row["fell"], 1.0) for row in measured}
    assert risks["static_patch"]["severity"] == pytest.approx(severity["static_patch"])
    assert sorted(risks["static_patch"]["runs"]) == [
        r["uid"] for r in query(work.db, "SELECT uid FROM attack_results WHERE attack = 'static_patch'").as_dicts()
    ]


def test_writing_again_gives_the_same_bytes_and_drops_old_pictures(work: Workplace) -> None:
    ran(work)
    write(work.results, said(work))
    files = [p for p in work.results.rglob("*") if p.parent.name in ("results", "report_files") and p.is_file()]
    before = {p: p.read_bytes() for p in files}
    (work.results / "report_files" / "per_class_pgd.png").write_bytes(b"old")
    write(work.results, said(work))
    assert {p: p.read_bytes() for p in files} == before
    assert not (work.results / "report_files" / "per_class_pgd.png").exists()


def test_an_attack_alone_is_reported_without_defenses(work: Workplace) -> None:
    text = PROFILE[: PROFILE.index("defense_config")]
    ran(work, text, seeds=(0,))
    write(work.results, said(work, text))
    assert "No defense was run." in (work.results / "final_report.md").read_text()
    assert list(load(work.results / "defense_evaluation.json")["backdoor"]["static_patch"]) == ["none"]


def test_without_a_completed_attack_the_documents_are_empty_but_there(work: Workplace) -> None:
    ran(work)
    write(work.results, said(work))
    assert "**GO**" in (work.results / "final_report.md").read_text()
    text = PROFILE.replace("dataset: {name: digits}", "dataset: {name: digits}\ntraining: {epochs: 9000}")
    stages = expand(parse(text), [0]).stages
    ran(work, text, uid="e2", seeds=(0,), statuses={stage.id: "cancelled" for stage in stages})
    write(work.results, said(work, text))
    report = (work.results / "final_report.md").read_text()
    assert "**NO-GO**" in report and "**GO**" not in report
    assert "No attack was measured." in report
    assert load(work.results / "risk_analysis.json") == {}
    assert load(work.results / "defense_evaluation.json") == {}
    for name in DOCUMENTS:
        assert all((work.results / a).exists() for a in links((work.results / name).read_text()))
    assert not list((work.results / "report_files").glob("*.png"))


def test_a_worst_case_that_applies_no_more_is_removed(work: Workplace) -> None:
    ran(work)
    old = work.results / "evasion" / "worst_case.json"
    old.parent.mkdir()
    old.write_text("[]")
    write(work.results, said(work))
    assert not old.exists()


class Page(HTMLParser):
    """What a page loads, links to and says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = dict(attrs)
        self.attributes |= given.keys()
        self.sources += [given["src"] or ""] if "src" in given else []
        self.links += [given["href"] or ""] if "href" in given else []


def test_html_is_one_file_that_loads_nothing(work: Workplace, tmp_path: Path) -> None:
    ran(work)
    target = tmp_path / "out" / "report.html"
    write_report(work.results, said(work), target, "html")
    assert [p.name for p in target.parent.iterdir()] == ["report.html"]
    page = Page(target.read_text())
    assert len(page.sources) == 4
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in page.sources)
    assert page.links and all((target.parent / address).is_dir() for address in page.links)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert page.tags.count("table") > 8


def test_markdown_elsewhere_has_its_pictures_beside_it(work: Workplace, tmp_path: Path) -> None:
    ran(work, seeds=(0,))
    target = tmp_path / "my reports" / "of today.md"
    write_report(work.results, said(work), target, "md")
    addresses = links(target.read_text())
    assert "of%20today_files/risk_matrix.png" in addresses
    for address in addresses:
        assert (target.parent / address.replace("%20", " ")).exists(), address


def test_the_report_of_another_profile_leaves_the_other_documents_their_pictures(work: Workplace) -> None:
    harmless = PROFILE.replace("small", "other").replace("[activation_clustering, spectral_signatures, ", "[")
    ran(work, harmless, uid="e0", seeds=(0,))
    ran(work, seeds=(0,))
    write(work.results, said(work))
    picture = work.results / "report_files" / "accuracy_asr_static_patch.png"
    before = picture.read_bytes()
    write_report(work.results, said(work, harmless), work.results / REPORT, "md")
    report = (work.results / REPORT).read_text()
    assert report.startswith("# Final report: other")
    assert all((work.results / address).exists() for address in links(report))
    assert picture.read_bytes() == before


HOSTILE = (
    '<script>alert(1)</script>', '<img src=x onerror=alert(1)>', "[a](javascript:alert(1))", "![x](http://e.vil/x.png)",
    "a|b", "`x`", "$\\frac{$", "\x1b[2J\u202e",
)  # fmt: skip


def test_hostile_names_are_harmless_in_markdown_and_html(work: Workplace, tmp_path: Path) -> None:
    names = "\n".join(f"  - {json.dumps(name)}" for name in HOSTILE)
    text = PROFILE.replace("name: small", f"name: {json.dumps('<b onclick=x>&lt;i>')}")
    text = text.replace("  threat_categories: [backdoor_attacks, data_poisoning, model_stealing]", f"  more:\n{names}")

    def by_class(stage: Any) -> dict[str, float]:
        return measure(stage) | {f"clean_accuracy.{name}": 0.5 for name in HOSTILE}

    ran(work, text, seeds=(0,), measure=by_class, classes=HOSTILE)
    found = said(work, text)
    write(work.results, found)
    for name in DOCUMENTS[1::2] + DOCUMENTS[4:]:
        report = (work.results / name).read_text()
        assert "<" not in report.replace("\n", "")
        assert "\x1b" not in report and "\u202e" not in report
        assert all(address.startswith(("runs/", "report_files/")) for address in links(report.replace("\\]", "")))
    target = tmp_path / "r.html"
    write_report(work.results, found, target, "html")
    page = Page(target.read_text())
    assert not {"script", "b", "i"} & set(page.tags)
    assert not {"onerror", "onclick"} & page.attributes
    assert all(source.startswith("data:") for source in page.sources)
    assert all(not address.startswith(("javascript", "http")) for address in page.links)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in target.read_text()
