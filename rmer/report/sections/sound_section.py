"""The audible domain: attacks on the sound, as the primary evaluation, with what there is to listen to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rmer.report.contents import Contents
from rmer.report.html import Link, ReportFigure, ReportTable, Section
from rmer.report.readable import NO_VALUE, and_list, number
from rmer.report.robustness import ROBUSTNESS_CAPTION, readable_robustness
from rmer.report.sections.checks_section import checks_section
from rmer.report.sections.comparison_section import comparison_section
from rmer.report.sections.curves_section import curves_section
from rmer.report.system_tables import in_order

TITLE = "Audible domain: attacks on the sound"
PAGE = "docs/audible.md"
# What begins the names of tables, figures and metrics of the sound beside those of spectrograms.
SOUND = "sound_"
AUDIBLE = (
    "system", "norm", "clips", "snr_db", "noise_to_mask_db", "noise_to_mask_db_max", "audible_share",
    "delta_mae_clipped", "noise_delta_mae_clipped", "after_mp3",
)  # fmt: skip
MP3 = "MP3 128 kbit/s"
NO_LISTENERS = (
    "No listeners were asked: what is masked is what a model of hearing says (Johnston 1988), for average "
    f"listeners and 96 dB SPL at full scale. See {PAGE}."
)


def sound_section(contents: Contents) -> Section | None:
    """Return the section; None where no sound was attacked.

    Beside an analysis of spectrograms it holds all that is found on the sound, its tables and figures named
    ``sound_*``; where the whole report is of the sound, only what other sections do not say.
    """
    heard = contents if contents.on_sound else contents.sound
    if heard is None:
        return None
    audible = audible_table(heard)
    tables = [
        ReportTable(AUDIBLE_CAPTION, readable_audible(audible)),
    ]
    data = {f"{SOUND}audible": audible, f"{SOUND}clips": heard.heard.clips}
    if len(heard.heard.codecs):
        data[f"{SOUND}codecs"] = heard.heard.codecs
        tables.append(ReportTable(CODECS_CAPTION, readable_codecs(heard.heard.codecs)))
    paragraphs = [_endpoint(heard), *_noise(audible, heard.norm), NO_LISTENERS]
    figures: dict[str, ReportFigure] = {}
    if heard is not contents:
        tables[:0] = [ReportTable(_scores_caption(heard), readable_robustness(heard.robustness[heard.norm]))]
        robustness = [table.assign(norm=norm) for norm, table in heard.robustness.items()]
        data[f"{SOUND}robustness"] = pd.concat(robustness, ignore_index=True)
        parts = [make(heard) for make in (comparison_section, curves_section, checks_section)]
        for part in filter(None, parts):
            # What the general sections say of their statistics is said there.
            paragraphs += part.paragraphs[:1] if part.title == "Sanity checks" else ()
            tables += part.tables
            figures |= {f"{SOUND}{name}": drawn for name, drawn in part.figures.items()}
            data |= {f"{SOUND}{name}": table for name, table in part.data.items()}
    return Section(TITLE, paragraphs, tables, figures, data, links=_links(heard))


AUDIBLE_CAPTION = (
    "What the adversaries are as sounds, means over clips and seeds: signal-to-noise ratio; largest "
    "noise-to-mask ratio of any band and frame (mean over clips, and of all; below 0 dB the model calls "
    "it inaudible), share of bands and frames above that. Δ clipped MAE: of the attack, and of the worst of "
    f"three noises of the same budget; after {MP3}: what the codec leaves of the former (of the adversaries "
    "that are worst by raw MAE)."
)
CODECS_CAPTION = (
    "Clipped MAE of clips and adversaries after what happens to recordings, means over seeds (the "
    "adversaries that are worst by raw MAE)."
)


def audible_table(contents: Contents) -> pd.DataFrame:
    """Return one row for each norm and system (:data:`AUDIBLE`), in full precision."""
    clips, codecs = contents.heard.clips, contents.heard.codecs
    rows = []
    for norm, models in contents.groups.items():
        for name, members in in_order(models).items():
            own = clips[(clips["norm"] == norm) & (clips["system"] == name)]
            after = codecs[
                (codecs["norm"] == norm) & (codecs["system"] == name) & (codecs["transformation"] == MP3)
            ]
            noises = [contents.logged[model.run_id].get("noise/delta_mae_clipped") for model in members]
            rows.append(
                {
                    "system": name,
                    "norm": norm,
                    "clips": len(own),
                    "snr_db": own["snr_db"].mean(),
                    "noise_to_mask_db": own["noise_to_mask_db"].mean(),
                    "noise_to_mask_db_max": own["noise_to_mask_db"].max(),
                    "audible_share": own["audible_share"].mean(),
                    "delta_mae_clipped": own["delta_mae_clipped"].mean(),
                    "noise_delta_mae_clipped": np.mean([np.nan if one is None else one for one in noises]),
                    "after_mp3": after["delta"].mean(),
                }
            )
    return pd.DataFrame(rows, columns=list(AUDIBLE))


def readable_audible(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as text."""
    shown = pd.DataFrame(
        {
            "System": table["system"],
            "Budget": table["norm"],
            "Signal to noise (dB)": [number(value, 1) for value in table["snr_db"]],
            "Noise to mask (dB): mean": [number(value, 1) for value in table["noise_to_mask_db"]],
            "Noise to mask (dB): largest": [number(value, 1) for value in table["noise_to_mask_db_max"]],
            "Above the threshold": [_percent(value) for value in table["audible_share"]],
            "Δ clipped MAE: attack": [number(value, 3) for value in table["delta_mae_clipped"]],
            "Δ clipped MAE: noise": [number(value, 3) for value in table["noise_delta_mae_clipped"]],
            f"Δ clipped MAE: after {MP3}": [number(value, 3) for value in table["after_mp3"]],
        }
    )
    # Brief suites make no codecs.
    return shown.drop(columns=f"Δ clipped MAE: after {MP3}") if table["after_mp3"].isna().all() else shown


def readable_codecs(table: pd.DataFrame) -> pd.DataFrame:
    """Return what is left after codecs as text, one row for each norm and transformation."""
    means = table.groupby(["norm", "transformation"], sort=False)[["clean", "adv", "delta"]].mean()
    rows = means.reset_index().to_dict("records")
    return pd.DataFrame(
        {
            "After": [row["transformation"] for row in rows],
            "Budget": [row["norm"] for row in rows],
            "Clipped MAE: clean": [number(row["clean"], 3) for row in rows],
            "Clipped MAE: attacked": [number(row["adv"], 3) for row in rows],
            "Clipped MAE: Δ": [number(row["delta"], 3) for row in rows],
        }
    )


def _endpoint(contents: Contents) -> str:
    others = [contents.budget_of(norm) for norm in list(contents.groups)[1:]]
    also = f" Beside it stand {and_list(others)}." if others else ""
    return (
        "The primary evaluation: 16-bit samples of clips are changed, written as WAV files, read back and "
        "preprocessed as any recording before they are scored. Primary endpoint, fixed in advance: what the "
        f"attack adds to clipped MAE within {contents.budget_of(contents.norm)}; secondary: what it takes "
        f"from the correlation, attacked for itself.{also}"
    )


def _noise(table: pd.DataFrame, norm: str) -> list[str]:
    own = table[table["norm"] == norm]
    if own["noise_delta_mae_clipped"].isna().all():
        return []
    worst = own.sort_values("noise_delta_mae_clipped", ascending=False).iloc[0]
    return [
        "Control: noise of the same budget adds at most "
        f"{number(worst['noise_delta_mae_clipped'], 3)} to the clipped MAE ({worst['system']}), where the "
        f"attack adds {number(worst['delta_mae_clipped'], 3)}."
    ]


def _scores_caption(contents: Contents) -> str:
    return f"Scores within {contents.budget_of(contents.norm)}. {ROBUSTNESS_CAPTION}"


def _links(contents: Contents) -> Sequence[Link]:
    return [
        Link(
            f"Listen to {_model(page.system, page.seed)} ({page.norm})",
            page.url,
            f"listen.html among the artifacts of run {page.run_id}",
        )
        for page in contents.heard.pages
    ]


def _model(system: object, seed: object) -> str:
    return f"{system} s{seed}" if seed else str(system)


def _percent(share: float) -> str:
    return NO_VALUE if np.isnan(share) else f"{100 * share:.1f} %"
