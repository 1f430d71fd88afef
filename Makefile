# make lab   the environment, then the lab's scripts on the files that are here
# make test  the environment, then the tests
# make practise   the exercises: copies them to practise/ if that is absent, and checks what is filled in there
# make exercises  makes the exercises anew from exercises/solutions/
# make check the linter that .ci/run runs too
# make fetch, make fetch-test  AlexNet's published weights and GTSRB's training photos; GTSRB's test photos

PYTHON ?= python3
PY = .venv/bin/python

# tensorflow has wheels for these versions only
SUPPORTED = import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))

# The lab is the same everywhere, network or not, unless told: make lab LAB_OFFLINE=0
lab test practise: export LAB_OFFLINE ?= 1

.PHONY: lab test practise exercises check fetch fetch-test

lab: .venv/complete
	@echo "== imagenet_inference.py: what is in these photos?"
	@$(PY) imagenet_inference.py
	@echo
	@echo "== traffic_sign_inference.py: the same network on signs, which it does not know"
	@$(PY) traffic_sign_inference.py
	@echo
	@echo "== train_feature_extraction.py: a new layer that knows them"
	@$(PY) train_feature_extraction.py --model lab-model --overwrite
	@echo
	@echo "== feature_extraction.py: the same signs again"
	@$(PY) feature_extraction.py --model lab-model

test: .venv/complete
	@$(PY) -m pytest -q tests

practise: .venv/complete
	@$(PY) exercises/check.py $(if $(HINT),--hint) || test $$? -eq 1

exercises: .venv/complete
	@$(PY) exercises/blank.py

check: .venv/complete
	@$(PY) -m pip install --quiet --disable-pip-version-check -r extras/dev.txt
	@$(PY) -m ruff check

fetch: .venv/complete
	@$(PY) -m lab.fetch weights train

fetch-test: .venv/complete
	@$(PY) -m lab.fetch test

# The mark is made last: without it, or when it is older than requirements.txt, the environment is made anew.
.venv/complete: requirements.txt
	@$(PYTHON) -c '$(SUPPORTED)' || \
		{ echo "make: $(PYTHON) is not Python 3.10 to 3.13: name one that is, as in make lab PYTHON=python3.12" >&2; exit 2; }
	@echo "Making the environment .venv (about 700 MB of packages, some minutes) ..."
	@rm -rf .venv
	@$(PYTHON) -m venv .venv
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch .venv/complete
