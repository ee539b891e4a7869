"""Parameters of stage ``predict``."""

from __future__ import annotations

from dataclasses import dataclass

from rmer.attacks.attack_domains import WAVEFORM
from rmer.evaluation.fragility import DOMAINS, MOVE
from rmer.parameters import Parameters, machine, model_choice, name_choice, param, place
from rmer.systems.arithmetic import PRECISIONS


@dataclass(frozen=True)
class PredictParams(Parameters):
    """Parameters of ``predict``."""

    songs: str = place("", "audio files and folders, by commas; on the command line also as arguments")
    system: str = model_choice("", "predict with all seeds of this system (A2M2E, unless model_uri is given)")
    seed: str = model_choice("", "of these, the model of this seed alone")
    train_protocol: str = model_choice("", "models of this protocol", choices=("", "published", "corrected"))
    model_uri: str = model_choice(
        "",
        "predict with this MLflow model, checkpoint file or model of code; --model is the same",
        kind="path",
    )
    dataset_run_id: str = name_choice("", "preprocess run that standardises songs for the model of model_uri")
    study: str = name_choice("", "group of models; default: models of the newest training")
    hop: float = param(10.0, "seconds from one window of a song to the next", low=0.1, high=600.0)
    fragility: bool = param(False, "find the smallest change that moves an emotion by fragility_move")
    fragility_domain: str = param(
        WAVEFORM, "what is changed: the sound, below what it masks, or the spectrogram", choices=DOMAINS
    )
    fragility_move: float = param(MOVE, "how far, where predictions go from 0 to 1", low=1e-3, high=1.0)
    decoder: str = param(
        "",
        "reader of audio files; default: that of the training data",
        choices=("", "soundfile", "madmom", "pyav"),
    )
    out_dir: str = place("predictions", "folder that the page and the tables are written to")
    precision: str = machine(
        "auto", "arithmetic of gradients; predictions are always float32", choices=PRECISIONS
    )
    device: str = machine("auto", "auto, cpu, cuda or cuda:<number>")
