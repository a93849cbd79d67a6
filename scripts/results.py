#!/usr/bin/env python3
"""Writes the tables of docs/results.md from docs/results/*.json (what `milepost suite run --json` printed)."""
import json, pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
MARK = "<!-- tables -->"


def rows(name):
    path = ROOT / "docs" / "results" / f"{name}.json"
    if not path.exists():
        return
    report = json.loads(path.read_text())
    for level, score in report["levels"].items():
        low, high = score["interval"]
        yield level, f"{score['solved']} of {score['episodes']} ({100 * low:.0f} to {100 * high:.0f} %)", report


def main():
    lines = ["| templates | level | adaplan | frozen | react |", "|---|---|---|---|---|"]
    for kind, names in [("trained", ["easy", "medium", "long"]), ("held-out", ["held-out"])]:
        for name in names:
            planners = [list(rows(f"{planner}-{name}")) for planner in ("adaplan", "frozen", "react")]
            for index, (level, *_) in enumerate(planners[0]):
                cells = [planner[index][1] if index < len(planner) else "not run" for planner in planners]
                lines.append(f"| {kind} | {level} | " + " | ".join(cells) + " |")
    lines += ["", "| run | actions | invalid | model, ms an action | rest, ms a step | milestones: by the checks, of those the server had | premature |", "|---|---|---|---|---|---|---|"]
    for path in sorted((ROOT / "docs" / "results").glob("*.json")):
        report = json.loads(path.read_text())
        if "milestones" not in report:
            continue  # the table of an experiment's results is a file beside them
        milestones = report["milestones"]
        lines.append(
            f"| {path.stem} | {report['actions']} | {report['invalid_actions']} | {report['model_ms_per_action_median']:.0f} | "
            f"{report['overhead_ms_per_step_median']:.0f} | {milestones['verified']} of {milestones['true']} | {milestones['premature']} |")
    oracle = [f"{level}: {cell}" for name in ("easy", "medium", "long") for level, cell, _ in rows(f"oracle-{name}")]
    lines += ["", "Oracle, all templates: " + "; ".join(oracle) + "."]
    target = ROOT / "docs" / "results.md"
    head, _, tail = target.read_text().split(MARK)
    target.write_text(head + MARK + "\n" + "\n".join(lines) + "\n" + MARK + tail)


if __name__ == "__main__":
    main()
