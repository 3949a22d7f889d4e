"""summary.html and growth.tsv of a cohort: one line and two pictures per child, to check by eye."""

from __future__ import annotations

import csv
import html
import json
from pathlib import Path

from regsuite.pipeline.report import INTENDED_USE

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%}td,th{padding:.3rem .6rem;text-align:left;border-bottom:1px solid #ddd}
td.n{text-align:right;font-variant-numeric:tabular-nums}figure{margin:1.5rem 0}img{max-width:100%;border-radius:6px}
.bad{color:#b00020}.warn{color:#8a5a00}h2{margin-top:2.5rem}"""


def write_page(out: Path, done: list[str], failed: dict[str, str]) -> None:
    """Write OUT/summary.html and OUT/growth.tsv from the derivatives of the subjects that are done."""
    rows, pictures = [], []
    table = ["participant_id\tage_first\tage_last\tbrain_ml_first\tbrain_ml_last\tpercent_per_year\tjacobian_min\twarnings"]
    for subject in done:
        report = json.loads((out / subject / f"{subject}_report.json").read_text(encoding="utf-8"))
        first, last = _brain(out / subject / f"{subject}_volumes.tsv")
        years = float(last["age_years"]) - float(first["age_years"])
        rate = 100.0 * ((float(last["volume_ml"]) / float(first["volume_ml"])) ** (1.0 / years) - 1.0)
        warnings = report["warnings"]
        cells = [first["age_years"], last["age_years"], first["volume_ml"], last["volume_ml"], f"{rate:.3f}"]
        cells += [f"{report['jacobian_min']:.3f}", str(len(warnings))]
        table.append("\t".join([subject, *cells]))
        shown = [f"{float(cell):.1f}" if n in (2, 3) else cell for n, cell in enumerate(cells)]
        numbers = "".join(f"<td class=n>{cell}</td>" for cell in shown)
        rows.append(f"<tr><td><a href='#{subject}'>{subject}</a></td>{numbers}</tr>")
        notes = "".join(f"<p class=warn>{html.escape(text)}</p>" for text in warnings)
        figures = "".join(
            f"<figure><img loading=lazy alt='{kind} of {subject}' src='{subject}/{subject}_desc-{kind}_growth.png'></figure>"
            for kind in ("overview", "curves")
        )
        pictures.append(f"<h2 id='{subject}'>{subject}</h2>{notes}{figures}")
    problems = "".join(f"<li class=bad><b>{html.escape(s)}</b>: {html.escape(r)}</li>" for s, r in sorted(failed.items()))
    titles = ["subject", "from (years)", "to (years)", "brain, first (ml)", "brain, last (ml)", "% per year", "lowest Jacobian"]
    titles.append("warnings")
    heads = "".join(f"<th>{name}</th>" for name in titles)
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Growth of a cohort</title>"
        f"<style>{_STYLE}</style>"
        f"<h1>Growth of a cohort</h1><p>{len(done)} done, {len(failed)} failed. {INTENDED_USE}</p>"
        f"{'<ul>' + problems + '</ul>' if problems else ''}"
        f"<table><tr>{heads}</tr>{''.join(rows)}</table>{''.join(pictures)}</html>\n"
    )
    (out / "growth.tsv").write_text("\n".join(table) + "\n", encoding="utf-8")
    (out / "summary.html").write_text(page, encoding="utf-8")


def _brain(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream, delimiter="\t") if row["region"] == "brain"]
    return rows[0], rows[-1]
