# make lab         make the environment, then run the lab's scripts on the files that are here
# make test        make the environment, then run the tests
# make practise    copy the exercises to practise/ if they are not there, and check what is filled in there
# make exercises   make the exercises again from exercises/solutions/
# make check       run the linter, as .ci/run does
# make fetch       fetch AlexNet's published weights and GTSRB's training photos
# make fetch-test  fetch GTSRB's test photos and their labels

PYTHON ?= python3
PY = .venv/bin/python

# TensorFlow has wheels for these versions only
SUPPORTED = import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))

# Offline unless told otherwise, so that results are the same everywhere: make lab LAB_OFFLINE=0
lab test practise: export LAB_OFFLINE ?= 1

.PHONY: lab test practise exercises check fetch fetch-test

lab: .venv/complete
	@echo "== imagenet_inference.py: what is in these photos?"
	@$(PY) imagenet_inference.py
	@echo
	@echo "== traffic_sign_inference.py: the same network on traffic signs, which it does not know"
	@$(PY) traffic_sign_inference.py
	@echo
	@echo "== train_feature_extraction.py: training a new layer that does"
	@$(PY) train_feature_extraction.py --model lab-model --overwrite
	@echo
	@echo "== feature_extraction.py: the same signs, with the new layer"
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

# This file is made last: if it is missing, or older than requirements.txt, the environment is made again.
.venv/complete: requirements.txt
	@$(PYTHON) -c '$(SUPPORTED)' || \
		{ echo "make: $(PYTHON) is not Python 3.10 to 3.13: choose one that is, for example make lab PYTHON=python3.12" >&2; exit 2; }
	@echo "Making the environment .venv (about 700 MB of packages, a few minutes) ..."
	@rm -rf .venv
	@$(PYTHON) -m venv .venv
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch .venv/complete
