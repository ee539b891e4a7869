"""Parameters of the engine that runs the jobs of a study or sweep."""

from __future__ import annotations

from dataclasses import dataclass, fields

from rmer.errors import UserError
from rmer.parameters import Parameters, machine

ENGINES = ("serial", "local", "ray")
# Parameters that some engines only know; to give one to another engine is an error.
SETTINGS = {"jobs_at_once": ("local", "ray"), "job_gpus": ("local", "ray"), "ray_address": ("ray",)}


@dataclass(frozen=True)
class EngineParams(Parameters):
    """Where jobs run, and how much of the machine each gets."""

    engine: str = machine("serial", "run jobs in this process, on worker processes, on Ray", choices=ENGINES)
    jobs_at_once: int = machine(0, "most jobs at a time (local, ray); 0: as many as fit", low=0, high=100_000)
    job_cpus: int = machine(
        0, "cores and threads a job; 0: all (serial), cores / jobs at once (local), 1 (ray)", low=0, high=1024
    )
    job_gpus: float | None = machine(
        None, "GPUs a job (.25: four share one); default: 1 where there are any", low=0.0, high=64.0
    )
    ray_address: str = machine("", "Ray cluster (auto, host:port); default: RAY_ADDRESS, else one made here")
    retries: int = machine(2, "how often a job whose worker died is tried again", low=0, high=1000)
    dry_run: bool = machine(False, "say what would be done, and stop")

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in fields(EngineParams):
            engines = SETTINGS.get(field.name, ENGINES)
            # Where none is given yet, that of a size of study will be.
            if self.engine and self.engine not in engines and getattr(self, field.name) != field.default:
                what = f"engine {self.engine} does not use it"
                mend = f"Leave it out, or choose engine {' or '.join(engines)}"
                raise UserError(what, where=f"parameter {field.name}", mend=mend)
        if self.job_gpus is not None and self.job_gpus > 1 and self.job_gpus % 1:
            mend = "Give a part of one, or a whole number"
            raise UserError(f"{self.job_gpus} cannot be had", where="parameter job_gpus", mend=mend)

    @classmethod
    def of(cls, params: Parameters) -> EngineParams:
        """Return the engine's part of the parameters of a study or sweep."""
        return EngineParams(**{field.name: getattr(params, field.name) for field in fields(EngineParams)})
