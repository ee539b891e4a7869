"""The methods paragraph of a paper, filled from what runs say of themselves; what they do not is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rmer.data.splits import ALL
from rmer.evaluation.bootstrap import DRAWS
from rmer.evaluation.comparison import PRIMARY, SECONDARY
from rmer.report.readable import and_list, number

SPLITS = {
    "published": "clips were split one by one, so that parts share albums",
    "album": "albums were kept together in one part of the split",
    "official": "parts are those of the split that comes with the data set",
}
NORMS = {"linf": "L-inf", "l2": "L2"}
_SCORES = (
    "Reported are the mean absolute error over clips and emotions, raw and with predictions clipped to "
    "the rating scale, and the Pearson correlation over clips averaged over emotions, beside the error "
    "of a constant prediction of the mean training label."
)


@dataclass(frozen=True)
class Methods:
    """What the paragraph is made of; empty texts and None are left out.

    Attributes
    ----------
    clips, albums, folds : Attacked clips, their albums, and the folds of the cross-validation (0: none).
    data : What preprocess said of the data set: ``clips``, ``frames``, ``targets``, ``frontend``.
    training : What train runs said: ``epochs``, ``lr``, ``batch_size``, ``patience``; of adversarially
        trained systems ``adversarial_norm``, ``_epsilon``, ``_iterations`` and ``_share``.
    attack : What attack runs said: ``attack``, ``norms``, ``epsilon`` (the reported one); of a suite
        ``tier``, ``steps``, ``restarts``, ``joint_restarts``, ``epsilons``, ``precision``; where some systems
        give no gradient, their names (``by_predictions``) and ``queries``, and where all do, no steps; where
        searches with reduced gradients were repeated in float32, ``search_loss`` (largest share of MAE, in %)
        and ``search_clips`` (how many clips), ``search_runs`` (``19 of 21``).
    sound : What attack runs on the sound said: ``attack``, ``norms``, ``budgets`` (in words) and ``reported``
        (in words); with no others, ``attack`` is empty.
    margins : Endpoint -> margin of equivalence.
    comparisons : How many rows the family of comparisons has.
    """

    clips: int
    albums: int
    split: str
    split_scheme: str
    systems: Mapping[str, Sequence[str]]
    train_protocol: str
    attack_protocol: str
    reference: str
    bootstrap_seed: int
    comparisons: int
    budget_held: bool
    margins: Mapping[str, float]
    folds: int = 0
    data: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, str] = field(default_factory=dict)
    attack: Mapping[str, str] = field(default_factory=dict)
    sound: Mapping[str, str] = field(default_factory=dict)


def methods_sentences(facts: Methods) -> list[str]:
    """Return the paragraph, one text a subject: data, training, attack, scores, statistics."""
    attacks = [make(facts) for make, known in ((_attack, facts.attack), (_sound, facts.sound)) if known]
    texts = [_data(facts), _training(facts), *attacks, _SCORES]
    return [*texts, _statistics(facts)] if facts.comparisons else texts


def _data(facts: Methods) -> str:
    data = facts.data
    what = f"The data set has {data['clips']} clips" if "clips" in data else ""
    if "frames" in data:
        what += f", excerpts of {data['frames']} spectrogram frames"
    if "targets" in data:
        what += f", rated for {', '.join(data['targets'].split(','))}"
    if facts.folds:
        scheme = (
            f"; these are all clips, tested in {facts.folds} folds that no album straddles, each by models "
            "trained without it (correlation: per fold, averaged)"
        )
        return f"{what}. Scores are over {facts.clips} clips{scheme}." if what else f"Scores{scheme}."
    scheme = f"; {SPLITS[facts.split_scheme]}" if facts.split_scheme in SPLITS else ""
    albums = f" of {facts.albums} albums" if facts.albums < facts.clips else ""
    if facts.split == ALL:
        scored = (
            f"Scores are over all its {facts.clips} clips{albums}; models were trained on another data set."
        )
        return f"{what}. {scored}"
    scored = f"Scores are over the {facts.clips} {facts.split or 'attacked'} clips{albums}{scheme}."
    return f"{what}. {scored}" if what else scored


def _training(facts: Methods) -> str:
    training = facts.training
    norm = training.get("adversarial_norm", "")
    seeds = {tuple(seeds) for seeds in facts.systems.values()}
    if len(seeds) == 1:
        trained = ", ".join(facts.systems)
        each = f"each with the training seeds {', '.join(next(iter(seeds)))}"
    else:
        trained = "; ".join(f"{name} (seeds {', '.join(own)})" for name, own in facts.systems.items())
        each = "with the training seeds given"
    text = f"The systems {trained} were trained under the {facts.train_protocol} protocol, {each}"
    if "epochs" in training:
        text += (
            f" (Adam, learning rate {training['lr']}, batches of {training['batch_size']}, at most "
            f"{training['epochs']} epochs, patience {training['patience']})"
        )
    if "adversarial_epsilon" in training:
        text += (
            f". Adversarial training attacked a share of {training['adversarial_share']} of each batch by "
            f"PGD of {training['adversarial_iterations']} steps within {NORMS.get(norm, norm)} "
            f"{training['adversarial_epsilon']}"
        )
    return f"{text}."


def _attack(facts: Methods) -> str:
    attack = facts.attack
    norms = " and ".join(NORMS.get(norm, norm) for norm in attack["norms"].split(","))
    if "tier" not in attack:
        budget = f"with a budget of epsilon {attack['epsilon']} ({norms}) in standardised units"
        held = "" if facts.budget_held else ", which was not enforced: perturbations exceed it"
        return f"They were attacked by {attack['attack']} ({facts.attack_protocol} protocol) {budget}{held}."
    radius = " (L2 radius: epsilon times the root of the number of cells)" if "L2" in norms else ""
    missed = ""
    if "search_loss" in attack:
        missed = (
            "; of the MAE that float32 gradients reach from the same starts, they missed "
            f"{attack['search_loss']} % at most (first {attack['search_clips']} clips of "
            f"{attack['search_runs']} runs)"
        )
    return (
        f"They were attacked within {norms} balls of epsilon {and_list(attack['epsilons'].split(','))} a "
        f"cell of the standardised spectrogram{radius} and within the box of valid spectrograms, "
        f"{_search(attack)} (tier {attack['tier']}). {_scored(attack)}{missed}. Budgets were asserted on the "
        "stored adversaries, which were read back to be scored. Results are reported at epsilon "
        f"{attack['epsilon']}."
    )


def _scored(attack: Mapping[str, str]) -> str:
    """Return which adversaries of a suite are scored, and in what arithmetic."""
    kept = "The worst iterate of each clip was kept for raw and for clipped MAE"
    if not _has_gradients(attack):
        return f"{kept}; correlation is that of those for raw MAE"
    without = f" (of {attack['by_predictions']}, those for raw MAE)" if "by_predictions" in attack else ""
    return (
        f"{kept}, the worst of all clips together for correlation{without}. Gradients were computed in "
        f"{attack['precision']}, perturbations, comparisons and scores in float32"
    )


def _has_gradients(attack: Mapping[str, str]) -> bool:
    return "tolerance" in attack or "steps" in attack


def _sound(facts: Methods) -> str:
    sound = facts.sound
    beside = "Primarily, the recordings themselves" if facts.attack else "The recordings"
    return (
        f"{beside} were attacked ({sound['attack']}): 16-bit samples at 22 050 Hz, within "
        f"{sound['budgets']}. "
        "What music masks follows Johnston (1988), with full scale at 96 dB SPL; no listeners were asked. "
        "Adversaries were written as WAV files, on whose samples the budget was asserted, read back and "
        f"preprocessed as the data before they were scored. Results are reported at {sound['reported']}."
    )


def _search(attack: Mapping[str, str]) -> str:
    """Return by what a suite attacked, from its settings."""
    square = ""
    if "by_predictions" in attack:
        square = (
            f"by Square (Andriushchenko et al. 2020) of {attack['queries']} queries a clip on the L1 error "
            "of each clip, as no gradient passes "
        )
    if not _has_gradients(attack):
        return f"{square}them"
    more = f"; {attack['by_predictions']} {square}it" if square else ""
    return f"{_by_ascent(attack)}{more}"


def _by_ascent(attack: Mapping[str, str]) -> str:
    jointly = "the mean correlation over all clips jointly"
    if "tolerance" in attack:
        within = number(100 * float(attack["tolerance"]))
        return (
            "by projected ascent with momentum (Dong et al. 2018) and steps that shrink along a cosine, from "
            f"the clean clip in {attack['first_steps']} steps and then from random starts of twice the steps "
            f"each, {attack['starts']} starts at most, until two agreed within {within} % of the damage: on "
            f"the L1 error of each clip, and on {jointly}"
        )
    outputs = ", then single outputs" if int(attack["restarts"]) > 2 else ""
    return (
        f"by APGD (Croce and Hein 2020) of {attack['steps']} steps: from {attack['restarts']} starts on the "
        f"error of each clip (L1 and squared error to the ratings{outputs}), and from "
        f"{attack['joint_restarts']} on {jointly}"
    )


def _statistics(facts: Methods) -> str:
    mae, corr = (number(facts.margins[endpoint], 4).rstrip("0") for endpoint in (PRIMARY, SECONDARY))
    units = "over albums (delete-one jackknife)"
    drawn = "seeds and albums"
    if facts.folds:
        units = "over folds, corrected for what their training clips share (Nadeau and Bengio 2003)"
        drawn = "seeds and folds"
    return (
        "Primary endpoint is what the attack adds to clipped MAE, secondary endpoint what it takes from the "
        f"correlation. {facts.reference} was compared with every other system by t tests whose variance is "
        f"that over training seeds and {units}, with Holm's correction over all "
        f"{facts.comparisons} comparisons; equivalence was tested by two one-sided tests within {mae} (MAE) "
        f"and {corr} (correlation). Percentile intervals are of a bootstrap that draws {drawn} "
        f"({DRAWS} draws, seed {facts.bootstrap_seed})."
    )
