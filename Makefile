.PHONY: check rounding test

check:  ## everything that is not a test
	ruff check .
	ruff format --check .
	mypy

rounding:  ## with other threads and instructions than the tests usually get: what is summed in another order
	OMP_NUM_THREADS=8 OMP_WAIT_POLICY=PASSIVE python -m pytest -q -n 2 -m rounding
	OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 OPENBLAS_CORETYPE=Haswell \
		python -m pytest -q -n 2 -m rounding

test:
	python -m pytest
