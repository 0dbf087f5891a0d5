# The project's one-command tasks. `make run` and `make test` do all their own set-up.
PYTHON ?= python3.11
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.PHONY: run cluster test check bench chaos sim proto clean

$(STAMP): pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[test,dev]'
	touch $@

run: $(STAMP)
	$(PY) manage.py serve

# Three members on this machine and the console over them: MEMBERS=5 for five.
cluster: $(STAMP)
	$(PY) manage.py serve --members $(or $(MEMBERS),3)

# Two workers, each with a core of its own (tests/support/lanes.py); ARGS="-n 0 tests/raft" for one process.
test: $(STAMP)
	$(PY) -m pytest -n 2 $(ARGS)

check: $(STAMP)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

bench: $(STAMP)
	$(PY) -m bench $(if $(QUICK),--quick) $(if $(CLUSTER),--cluster $(CLUSTER)) $(ARGS)

# Real processes broken under load, round after round: MINUTES=10 MEMBERS=3 SEED=… MIXED=1 NETNS=1
chaos: $(STAMP)
	$(PY) -m tests.support.chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(MEMBERS),--members $(MEMBERS)) \
		$(if $(SEED),--seed $(SEED)) $(if $(MIXED),--mixed) $(if $(NETNS),--netns) $(ARGS)

# SEED=n replays one run; HOURS=1, MINUTES=5 or RUNS=100 hunt over fresh seeds until one fails (GO_ON=1:
# and beyond), JOBS=2 on two cores.
sim: $(STAMP)
	$(PY) -m tests.support.sim $(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS)) \
	  $(if $(HOURS),--minutes $$(($(HOURS) * 60))) $(if $(MINUTES),--minutes $(MINUTES)) \
	  $(if $(RUNS),--runs $(RUNS)) $(if $(FIRST),--first $(FIRST)) $(if $(JOBS),--jobs $(JOBS)) \
	  $(if $(GO_ON),--go-on)

proto: $(STAMP)
	$(PY) -m grpc_tools.protoc -I. --python_out=. --pyi_out=. kvserver/proto/*.proto
	$(PY) -m grpc_tools.protoc -I. --grpc_python_out=. $(foreach f,rpc lock election health,kvserver/proto/$(f).proto)

clean:
	rm -rf $(VENV) build dist *.egg-info
