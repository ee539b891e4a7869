"""The other model that adversaries are crafted on, to be transferred to the attacked one."""

from __future__ import annotations

from rmer.errors import UserError
from rmer.stages.attack.victims import Victim, victim_of_run
from rmer.systems.catalogue import CATALOGUE
from rmer.tracking import Origin, Stage, Store, Tag


def find_surrogate(store: Store, victim: Victim, *, system: str, run_id: str) -> Victim | None:
    """Return another model to craft adversaries on: the run given, else the newest of the same training seed.

    Of several systems, the first of the catalogue that is not the victim's (nor the placebo). None where no
    such model was trained on the same data, split and protocol. Raises UserError where the run given sees
    the clips standardised otherwise, and where the run or system given is the victim itself.
    """
    if run_id:
        found = _another(victim_of_run(store, store.get(run_id), victim.dataset_run_id), victim)
        if victim.own is None and (found.scheme, found.fold) != (victim.scheme, victim.fold):
            what = (
                f"{found.system} was trained on another split than {victim.system}, so on clips it is to fool"
            )
            mend = "Transfer from a model of the same split and fold"
            raise UserError(what, where=f"run {run_id}", mend=mend)
        if found.data.normalisation != victim.data.normalisation:
            what = f"{found.system} sees the clips standardised otherwise than {victim.system} does"
            mend = "Transfer from a model of the same training protocol and split"
            raise UserError(what, where=f"run {run_id}", mend=mend)
        return found
    shared = {
        Tag.SEED: victim.seed,
        Tag.DATASET: victim.trained_on,
        Tag.SPLIT_SCHEME: victim.scheme,
        **({Tag.FOLD: str(victim.fold)} if victim.fold else {}),
        Tag.TRAIN_PROTOCOL: victim.train_protocol,
    }
    study = victim.run.tags.get(Tag.STUDY) if victim.run else None
    trained = {
        record.tags.get(Tag.SYSTEM, ""): record
        for record in reversed(store.find(Stage.TRAIN, shared, study))
        if record.tags.get(Tag.ORIGIN) != Origin.IMPORTED
    }
    others = [name for name, known in CATALOGUE.items() if not known.permuted_concepts]
    for name in [system] if system else others:
        if name in trained and (system or name != victim.system):
            found = victim_of_run(store, trained[name], victim.dataset_run_id)
            return _another(found, victim) if system else found
    return None


def _another(found: Victim, victim: Victim) -> Victim:
    """Return the model found; raises UserError where it has the weights of the victim."""
    if found.digest == victim.digest:
        what = f"{found.system} is the attacked model itself: nothing would be transferred"
        raise UserError(what, where="source of the transfer", mend="Name another run or system")
    return found
