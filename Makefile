.PHONY: check rounding test

check:  ## everything that is not a test
	ruff check .
	ruff format --check .
	mypy

rounding:  ## with other threads and instructions than the tests usually get: what is summed in another order
	OMP_NUM_THREADS=2 python -m pytest -q -m rounding
	OMP_NUM_THREADS=8 python -m pytest -q -m rounding
	OMP_NUM_THREADS=1 ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 python -m pytest -q -m rounding

test:
	python -m pytest
