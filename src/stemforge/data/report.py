"""What was rendered: one manifest line a song, and a report over all of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from stemforge.data.score import STEMS


def summarize(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Songs, hours, share of seconds with at least 2 and 4 stems sounding, loudness and presence of each stem."""
    counts = np.concatenate([_active_count(row) for row in rows]) if rows else np.zeros(1, int)
    loudness = {stem: [row["loudness_db"][stem] for row in rows if stem in row["loudness_db"]] for stem in STEMS}
    return {
        "songs": len(rows),
        "hours": round(sum(row["seconds"] for row in rows) / 3600, 4),
        "share_of_time_with_2_stems": round(float(np.mean(counts >= 2)), 4),
        "share_of_time_with_4_stems": round(float(np.mean(counts >= 4)), 4),
        "stems": {
            stem: {
                "songs": len(values),
                "active_rms_db_mean": round(float(np.mean(values)), 2),
                "active_rms_db_std": round(float(np.std(values)), 2),
                "share_of_time": round(_share(rows, stem), 4),
            }
            for stem, values in loudness.items()
            if values
        },
        "sources": dict(Counter(str(row["song"]["source"]) for row in rows)),
        "voices": {stem: dict(_voices(rows, stem).most_common()) for stem in STEMS},
    }


def _active_count(row: dict[str, Any]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.sum(list(row["active"].values()), axis=0) if row["active"] else np.zeros(int(row["seconds"]), np.int64)


def _share(rows: list[dict[str, Any]], stem: str) -> float:
    """Share of all seconds in which the stem sounds."""
    total = sum(int(row["seconds"]) for row in rows)
    return sum(sum(row["active"].get(stem, [])) for row in rows) / max(total, 1)


def _voices(rows: list[dict[str, Any]], stem: str) -> Counter[str]:
    labels = (part["voice"] for row in rows for part in row["stems"].get(stem, {"parts": []})["parts"])
    return Counter(" ".join(label.split()[:1]) if label.startswith("one-shots") else label for label in labels)


def write_report(rows: list[dict[str, Any]], out: Path) -> dict[str, Any]:
    """Write manifest.jsonl (a line a song) and report.json into `out`; returns the report."""
    lines = (json.dumps({"folder": f"{row['index']:06d}", **row}) for row in rows)
    (out / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    report = summarize(rows)
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report
