# Short names for what people do every day. What is compiled, and how, stands in CMakeLists.txt.
#
# Nothing is installed outside .venv, and what make does is instant the second time: .venv/.stamps remembers what is
# installed, build/dev what is compiled. Several people may run make in one checkout at the same time.

PYTHON ?= python3
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
VARIANT ?= debug
ARGS ?=
STORE ?=
TARGET ?= all
SECONDS ?= 60

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
STAMPS := $(VENV)/.stamps
BIN := $(VENV)/bin
# The editable install warns of folders that are named like the package: it is meant that way.
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip --disable-pip-version-check install --quiet
# Compiled modules come from `make build`; the editable install brings metadata, scripts and dependencies only.
EDITABLE := --no-build-isolation --config-settings=cmake.define.CAJUN_EXTENSIONS=OFF --editable

# The dashboard is tested in a real browser where the system has one.
BROWSER := $(and $(shell command -v chromium),$(shell command -v chromedriver))

# One at a time for all that writes into .venv and build/. macOS has no flock; nobody shares a checkout there.
LOCK := $(if $(shell command -v flock),flock build/.lock)
ready = mkdir -p build && $(LOCK) $(MAKE) $(1)

.PHONY: help demo look test bench check sanitize fuzz mutants coverage build variant docs dist clean distclean

help:
	@echo "make demo      three node processes, one of them killed, and the verdict on every transfer"
	@echo "               (STORE=etcd on a throwaway etcd, STORE=http://… on yours, ARGS=… for cajun-fast demo)"
	@echo "make look      three nodes with something to do, and their dashboard, until Ctrl-C (ARGS=… for cajun-fast look)"
	@echo "make test      all tests (ARGS=… for pytest)"
	@echo "make bench     the benchmarks, each beside the plain way of doing it (ARGS=… for pytest)"
	@echo "make check     ruff, mypy --strict, the stubs of the compiled modules, import ranks, documentation"
	@echo "make sanitize  the core tests under ASan and UBSan"
	@echo "make fuzz      hostile bytes, guided by coverage, under ASan and UBSan (TARGET=$(TARGET) SECONDS=$(SECONDS))"
	@echo "make mutants   break the engine on purpose, fault by fault, and see that a test fails for each"
	@echo "make coverage  all tests on the coverage variant: .py and .pyx, line by line (ARGS=… for pytest)"
	@echo "make build     compile what changed, in place: the checkout is ready to import"
	@echo "make variant   build/VARIANT, one of debug asan fuzz tsan coverage profile (VARIANT=$(VARIANT))"
	@echo "make docs      the documentation as a site, in build/site; every warning is an error"
	@echo "make dist      sdist and wheel, in dist/"
	@echo "make clean     remove what was built; make distclean: .venv too"
	@echo
	@echo "The first run makes .venv with $(PYTHON); make PYTHON=python3.13 demo takes another."

demo:
	@$(call ready,compiled $(STAMPS)/$(if $(filter etcd,$(STORE)),demo,package))
	@exec $(BIN)/cajun-fast demo $(if $(STORE),--store '$(STORE)') $(ARGS)

look:
	@$(call ready,compiled $(STAMPS)/http)
	@exec $(BIN)/cajun-fast look $(ARGS)

test:
	@$(call ready,compiled $(STAMPS)/test $(STAMPS)/promtool $(if $(BROWSER),$(STAMPS)/browser))
	@PATH="$(CURDIR)/$(VENV)/promtool:$$PATH" exec $(BIN)/python -m pytest $(ARGS)

bench:
	@$(call ready,compiled $(STAMPS)/bench)
	@exec $(BIN)/python -m pytest bench --benchmark-only --benchmark-columns=min,median,mean,ops $(ARGS)

# Every check runs, so that one look shows all that is wrong.
check:
	@$(call ready,compiled $(STAMPS)/dev $(STAMPS)/docs)
	@failed=; \
	run() { echo "-- $$*"; "$(BIN)/$$@" || failed+=" [$$*]"; }; \
	run ruff check .; \
	run ruff format --check .; \
	run python -m mypy; \
	run python -m mypy --strict examples; \
	run python -m mypy.stubtest --mypy-config-file pyproject.toml --ignore-unused-allowlist --allowlist tests/build/stubtest_allowlist.txt \
		$$(cd src_pyx && find cajun_fast -name '*.pyx' | sort | sed 's/\.pyx$$//; s#/#.#g'); \
	run python -m pytest -q tests/test_layers.py; \
	NO_MKDOCS_2_WARNING=1 run python -m mkdocs build --strict --quiet; \
	if test -n "$$failed"; then echo "Failed:$$failed"; exit 1; fi

sanitize:
	@$(call ready,variant-asan $(STAMPS)/test)
	@$(BIN)/ctest --test-dir build/asan --output-on-failure --no-tests=error

fuzz:
	@$(call ready,variant-fuzz $(STAMPS)/test)
	@build/fuzz/fuzz -m tests.fuzz.fuzz $(TARGET) --seconds $(SECONDS) --save

mutants:
	@$(call ready,compiled $(STAMPS)/test)
	@PYTHONPATH=. $(BIN)/python -m tests.mutants.run

coverage: export PYTHONPATH := build/coverage/site:tests/build:src_pyx
coverage: export PYTHONSAFEPATH := 1
coverage:
	@$(call ready,variant-coverage $(STAMPS)/dev)
	@$(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage report --skip-covered --show-missing

build:
	@$(call ready,compiled)

variant:
	@$(call ready,variant-$(VARIANT))
	@echo "PYTHONSAFEPATH=1 PYTHONPATH=build/$(VARIANT)/site runs anything on it."

docs:
	@$(call ready,compiled $(STAMPS)/docs)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet && echo "The documentation is in build/site."

dist:
	@$(call ready,$(STAMPS)/dev)
	@rm -rf dist && $(BIN)/python -m build --no-isolation --outdir dist

clean:
	@rm -rf build dist *.egg-info
	@find cajun_fast \( -name '*.so' -o -name '*.so.new' \) -delete

distclean: clean
	@rm -rf $(VENV)

# ---- What the targets above stand on; these run under the lock ------------------------------------------------------

.PHONY: compiled variant-%
compiled: build/dev/build.ninja
	@$(BIN)/ninja -C build/dev -j $(JOBS) -k 0 --quiet

variant-%: build/%/build.ninja
	@$(BIN)/ninja -C build/$* -j $(JOBS) -k 0 --quiet

configure = $(BIN)/cmake --fresh -S . -B build/$(1) -G Ninja $(2) --log-level=WARNING \
	-DCMAKE_MAKE_PROGRAM='$(CURDIR)/$(BIN)/ninja' -DPython_EXECUTABLE='$(CURDIR)/$(BIN)/python' \
	$$(test ! -d $(VENV)/headers || echo -DCAJUN_PYTHON_HEADERS='$(CURDIR)/$(VENV)/headers/usr/include')

.PRECIOUS: build/%/build.ninja
build/dev/build.ninja: $(STAMPS)/tools $(STAMPS)/headers
	@$(call configure,dev,-DCAJUN_VARIANT=release -DCAJUN_INPLACE=ON)

build/%/build.ninja: $(STAMPS)/tools $(STAMPS)/headers
	@$(call configure,$*,-DCAJUN_VARIANT=$*)

# Touched only when the list changes: a new CMake configuration compiles everything anew.
$(STAMPS)/tools.txt: $(STAMPS)/venv pyproject.toml
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], \
		"cmake>=3.26", "ninja", sep="\n")' > $@.new
	@cmp -s $@ $@.new || mv $@.new $@

$(STAMPS)/tools: $(STAMPS)/tools.txt
	@echo "Installing the build tools into $(VENV)"
	@$(PIP) -r $<
	@touch $@

$(STAMPS)/package: $(STAMPS)/tools $(STAMPS)/headers pyproject.toml setup.py
	@echo "Installing the package's dependencies into $(VENV)"
	@$(PIP) $(EDITABLE) .
	@touch $@

$(STAMPS)/demo $(STAMPS)/http $(STAMPS)/test $(STAMPS)/bench $(STAMPS)/dev $(STAMPS)/docs $(STAMPS)/browser: $(STAMPS)/package
	@echo "Installing the extra '$(@F)' into $(VENV)"
	@$(PIP) $(EDITABLE) '.[$(@F)]'
	@touch $@

# Prometheus' own checker, out of its Debian package: no package index has it. Where it cannot be had its test is skipped.
$(STAMPS)/promtool: $(STAMPS)/venv
	@mkdir -p $(VENV)/promtool; \
	if ! command -v promtool >/dev/null; then \
		echo "Unpacking promtool into $(VENV)/promtool"; \
		(cd $(VENV)/promtool && apt-get -qq -o Acquire::http::Timeout=10 download prometheus && \
			dpkg --fsys-tarfile prometheus_*.deb | tar -x --strip-components=3 ./usr/bin/promtool; rm -f prometheus_*.deb) \
			2>/dev/null || true; \
		test -x $(VENV)/promtool/promtool || echo "promtool cannot be had here: its test is skipped"; \
	fi; \
	touch $@

# What is missing, and the remedy: one line each.
sorry = sorry() { printf 'make: %s\n' "$$@" >&2; exit 1; }

$(STAMPS)/venv:
	@$(sorry); \
	if ! test -x $(BIN)/python; then \
		command -v '$(PYTHON)' >/dev/null || sorry "there is no $(PYTHON)." \
			"Remedy on Debian and Ubuntu: sudo apt install python3 python3-venv python3-dev"; \
		version=$$('$(PYTHON)' -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || sorry \
			"$(PYTHON) is Python $$version, and cajun-fast needs 3.11 or newer." \
			"Remedy: install a newer one and name it, for example: make PYTHON=python3.12 demo"; \
		'$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null || sorry \
			"$(PYTHON) comes without its venv module." \
			"Remedy on Debian and Ubuntu: sudo apt install python$$version-venv"; \
		echo "Making $(VENV) with Python $$version"; \
		'$(PYTHON)' -m venv --clear $(VENV); \
	fi; \
	mkdir -p $(STAMPS); touch $@

# Debian splits the C headers off Python. Where they are not installed, its package is unpacked into .venv, which needs
# no root: a newcomer's two commands stay two.
$(STAMPS)/headers: $(STAMPS)/venv
	@$(sorry); \
	command -v cc >/dev/null || sorry "there is no C compiler." \
		"Remedy on Debian and Ubuntu: sudo apt install gcc libc6-dev"; \
	include=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))'); \
	if ! test -e "$$include/Python.h"; then \
		package=$$(basename "$$include")-dev; \
		echo "$$include/Python.h is missing: unpacking lib$$package into $(VENV)/headers"; \
		mkdir -p $(VENV)/headers; \
		(cd $(VENV)/headers && apt-get -qq download "lib$$package" && dpkg -x "lib$$package"_*.deb .) || sorry \
			"Python's C headers are missing." "Remedy on Debian and Ubuntu: sudo apt install $$package"; \
	fi; \
	touch $@
