"""Stage ``attack``: attack trained systems on one part of their data, one run a model."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from rmer.attacks.attack_domains import WAVEFORM
from rmer.attacks.sound_budgets import budget_of
from rmer.data.splits import ALL
from rmer.errors import UserError
from rmer.evaluation.checks.measurements import AttackedScores
from rmer.stages.attack.agreement import read_curve
from rmer.stages.attack.attack_logging import attack_and_log
from rmer.stages.attack.attack_params import AttackParams
from rmer.stages.attack.attack_setup import AttackSetup
from rmer.stages.attack.chosen_models import select_runs
from rmer.stages.attack.surrogate import find_surrogate
from rmer.stages.attack.victims import Victim, victim_of_run, victim_of_uri
from rmer.stages.data.dataset_runs import name_of, name_tag
from rmer.stages.data.found_recordings import sound_folder
from rmer.stages.run_names import budget_name, run_name
from rmer.systems.audio_model import AudioModel
from rmer.systems.catalogue import known_system
from rmer.systems.devices import resolve_device
from rmer.tracking import Origin, Outcome, Run, RunSpec, Stage, Store, Tag


def attack(store: Store, params: AttackParams) -> list[Outcome]:
    """Attack every model that the parameters name; finished attacks are skipped."""
    device = resolve_device(params.device)
    return [attack_victim(store, victim, params, device) for victim in victims_of(store, params)]


def victims_of(store: Store, params: AttackParams) -> Iterator[Victim]:
    """Yield the models that the parameters name, each loaded when it is asked for."""
    if params.model_uri:
        yield victim_of_uri(store, params)
        return
    runs = select_runs(store, params)
    for run in runs:
        yield victim_of_run(store, run, params.dataset_run_id)


def attack_victim(store: Store, victim: Victim, params: AttackParams, device: torch.device) -> Outcome:
    """Attack one model, or skip it where a finished run has the same configuration."""
    surrogate, other_norm = _surrogate(store, victim, params), _other_norm(store, victim, params)
    for model in filter(None, [victim, surrogate]):
        if isinstance(model.model, AudioModel) and not params.on_sound:
            mend = f"Give domain {WAVEFORM}, which changes the sound itself"
            raise UserError("takes audio: there is no spectrogram to attack", where=model.system, mend=mend)
    given = params.soundtracks_dir
    folder = sound_folder(store, victim.dataset_run_id, given) if params.on_sound else ""
    twins = _twins(store, victim)
    setup = AttackSetup(victim, params, surrogate, device, other_norm, twins, folder)
    _ = setup.part  # a split that the data have not is told before a run is opened
    if setup.black_box and params.suite is not None and params.warm_start:
        what = f"{victim.system} is attacked by its predictions alone, and Square begins anew at each budget"
        raise UserError(what, where="parameter warm_start", mend="Leave it out")
    spec = spec_of(setup)

    def body(run: Run) -> None:
        if victim.run is not None:
            link = {f"{Tag.ATTACK_RUN_ID}.{run.run_id}": setup.in_words}
            run.tag_other(victim.run.run_id, link)
        attack_and_log(run, setup)

    return store.perform(spec, body)


def _surrogate(store: Store, victim: Victim, params: AttackParams) -> Victim | None:
    """Return the model that adversaries are crafted on; a suite goes without where there is none."""
    if "source_system" not in params.settings:
        return None
    system, run_id = params.settings["source_system"], params.settings["source_run_id"]
    found = find_surrogate(store, victim, system=system, run_id=run_id)
    if found is None and (params.method.needs_surrogate or system):
        what = f"no other trained model of seed {victim.seed or '(none)'} on the same data to transfer from"
        raise UserError(what, where=store.name, mend="Train another system, or give source_run_id")
    return found


def _other_norm(store: Store, victim: Victim, params: AttackParams) -> dict[str, dict[float, AttackedScores]]:
    """Return norm -> budget -> scores of the same model's suite under the other norm, if that was run."""
    if params.suite is None or victim.run is None or params.on_sound:
        return {}
    other = "l2" if params.settings["norm"] == "linf" else "linf"
    tags = {Tag.ATTACK: params.attack, Tag.NORM: other, Tag.DATASET: victim.dataset.digest}
    tags[Tag.SPLIT] = params.split if victim.own is None else ALL
    tags[Tag.TRAIN_RUN_ID] = victim.run.run_id
    # A curve with warm starts says nothing about cold ones.
    runs = [run for run in store.find(Stage.ATTACK, tags) if run.params.get("cfg.warm_start") != "true"]
    if not runs:
        return {}
    rows = read_curve(store, runs[0])[["epsilon", "mae", "mae_clipped", "corr"]].to_numpy().tolist()
    return {other: {epsilon: AttackedScores(*scores) for epsilon, *scores in rows}}


def _twins(store: Store, victim: Victim) -> list[str]:
    """Return the other systems and seeds that train runs with the weights of a model are of."""
    trained = store.find(Stage.TRAIN, {Tag.WEIGHTS: victim.digest})
    names = {(run.tags.get(Tag.SYSTEM, run.name), run.tags.get(Tag.SEED, "")) for run in trained}
    known = known_system(victim.system)
    if known is not None and known.fitted_at_once:  # no seed makes a difference
        names = {(system, seed) for system, seed in names if system != victim.system}
    return [f"{system} s{seed}" for system, seed in sorted(names - {(victim.system, victim.seed)})]


def spec_of(setup: AttackSetup) -> RunSpec:
    """Return what the run of an attack is."""
    victim, params, surrogate = setup.victim, setup.params, setup.surrogate
    protocol = params.method.protocol
    settings = params.settings
    if params.on_sound:
        settings |= {"budgets": [budget_of(settings["norm"], at) for at in params.all_epsilons]}
    else:
        settings |= {"epsilons": params.all_epsilons}
    settings |= params.method.implied(params.own_settings, black_box=setup.black_box)
    if surrogate is not None:
        settings |= {"source_system": surrogate.system, "source_model": surrogate.digest}
    settings.pop("source_run_id", None)  # the digest says which model it is
    norm = settings.setdefault("norm", "linf")
    tier = settings.get("tier", "")
    size = settings["budget"] if params.on_sound else params.reported_epsilon
    budget = budget_name(norm, size, on_sound=params.on_sound)
    own = victim.run is not None and victim.run.tags.get(Tag.ORIGIN) == Origin.COMPUTED
    return RunSpec(
        stage=Stage.ATTACK,
        name=run_name(*victim.name_parts, params.attack, budget),
        config={
            "attack": params.attack,
            "attack_protocol": protocol,
            "split": setup.split,
            **settings,
            "precision": setup.precision,
            **victim.training,
            "model": victim.digest,
            "system": victim.system,
            "seed": victim.seed,
            "train_protocol": victim.train_protocol,
            "dataset": victim.dataset.digest,
            **({"trained_on": victim.trained_on} if victim.own is not None else {}),
            "split_scheme": victim.scheme,
            **({"fold": victim.fold} if victim.fold else {}),
            "normalised_on": victim.fit_on,
        },
        tags={
            Tag.ATTACK: params.attack,
            Tag.ATTACK_PROTOCOL: protocol,
            Tag.NORM: norm,
            Tag.EPSILON: f"{params.reported_epsilon:g}",
            **({Tag.DOMAIN: params.domain, Tag.BUDGET: f"{settings['budget']:g}"} if params.on_sound else {}),
            Tag.SPLIT: setup.split,
            **({Tag.TIER: tier} if tier else {}),
            **({Tag.ATTACK_SEED: str(settings["attack_seed"])} if "attack_seed" in settings else {}),
            Tag.SYSTEM: victim.system,
            Tag.SEED: victim.seed,
            Tag.TRAIN_PROTOCOL: victim.train_protocol,
            Tag.SPLIT_SCHEME: victim.scheme,
            **({Tag.FOLD: str(victim.fold)} if victim.fold else {}),
            Tag.DATASET: victim.dataset.digest,
            **name_tag(victim.dataset),
            **_own_data_tags(victim),
            Tag.DATASET_RUN_ID: victim.dataset_run_id,
            **({Tag.TRAIN_RUN_ID: victim.run.run_id} if victim.run else {Tag.MODEL_URI: params.model_uri}),
            Tag.ORIGIN: Origin.COMPUTED if own else Origin.EXTERNAL,
        },
        # Never the study of the model: a finished study would get runs that it cannot be compared with.
        study=params.study or None,
    )


def _own_data_tags(victim: Victim) -> dict[str, str]:
    """Return the tags that tell data that a model was trained on from those that it is attacked on."""
    if victim.own is None:
        return {}
    return {Tag.TRAINED_ON: victim.own.digest, Tag.TRAINED_ON_NAME: name_of(victim.own)}
