# Everything is built once, by the same flags, whether for a demonstration, a test or a benchmark.
BUILD := swift build -c release -Xswiftc -enable-testing
# By itself `swift test` would say -enable-testing a second time, and another command line is another build.
TEST := swift test -c release -Xswiftc -enable-testing --disable-testable-imports
BIN := .build/release
WORK := .build/bench
FUZZ_SECONDS ?= 60
THREADS ?= 1,2

.DEFAULT_GOAL := help
.PHONY: help setup build demo test test-arm test-numa lint format bench bench-formats bench-kernels compare quality proof fuzz api-fuzz load soak sanitize quota lm-eval clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

setup: ## install missing system packages (Debian, Ubuntu), check the Swift toolchain
	@scripts/setup.sh

build: setup ## build `lathe` into .build/release
	@$(BUILD)

demo: build ## convert the bundled model, write text with it, show what it cost
	@scripts/demo.sh $(BIN)/lathe

# The server's tests wait for real sockets and clocks: what shares the processors with all others is too late for them.
test: setup ## run every test
	@$(TEST) --filter LatheServeTests; server=$$?; $(TEST) --skip-build --skip LatheServeTests && exit $$server

test-arm: ## hold the NEON kernels to the committed digests, under emulation where this is no Arm processor
	@scripts/test-arm.sh

test-numa: build ## show placement over memory nodes on an emulated machine that has two
	@Tests/Numa/run.sh $(BIN)/lathe

lint: ## check formatting, the list of files with `unsafe`, the arrows between targets, C warnings, Python
	@swift format lint --strict --recursive --parallel Sources Tests Package.swift Examples/*/Sources Examples/*/Package.swift
	@scripts/lint-unsafe.sh
	@scripts/lint-arrows.sh
	@scripts/lint-c.sh
	@scripts/lint-python.sh

format: ## format the Swift sources in place
	@swift format --in-place --recursive --parallel Sources Tests Package.swift Examples/*/Sources Examples/*/Package.swift

bench: build ## measure on random weights of GPT-2 small: THREADS=1,2
	@mkdir -p $(WORK)
	@test -f $(WORK)/gpt2/model.safetensors || $(BIN)/lathe synthesize gpt2 --dtype f16 -o $(WORK)/gpt2
	@$(BIN)/lathe quantize $(WORK)/gpt2 -o $(WORK)/gpt2.lathe | tail -n 1
	@$(BIN)/lathe bench --model $(WORK)/gpt2.lathe --threads $(THREADS)

bench-formats: build ## time dense, int4 and sparse weights of GPT-2 small beside each other: THREADS=1,2
	@python3 Benchmarks/formats.py --lathe $(BIN)/lathe --work $(WORK) --threads $(THREADS)

load: build ## load lathe-serve as users will, beside llama.cpp's server: ARGUMENTS="--model gpt2=gpt2.lathe"
	@python3 Benchmarks/load/load.py speed --program $(BIN)/lathe-serve $(ARGUMENTS)
	@python3 Benchmarks/load/load.py stall --program $(BIN)/lathe-serve $(ARGUMENTS)
	@python3 Benchmarks/load/load.py overload --program $(BIN)/lathe-serve $(ARGUMENTS)
	@python3 Benchmarks/load/load.py report

soak: build ## half an hour of mixed requests; memory must stay flat: ARGUMENTS="--model novelist=novelist.lathe"
	@python3 Benchmarks/load/load.py soak --seconds 1800 --program $(BIN)/lathe-serve $(ARGUMENTS)
	@python3 Benchmarks/load/load.py report

sanitize: build ## run the service under ThreadSanitizer and the server under LeakSanitizer (a quarter of an hour)
	@scripts/sanitize.sh

quota: build ## hold the threads chosen under a processor quota to every number by hand: MODEL=gpt2.lathe
	@python3 Benchmarks/quota.py --lathe $(BIN)/lathe --model $(MODEL)

lm-eval: build ## hold the server's log-likelihoods to transformers' by lm-evaluation-harness: PYTHON=venv/bin/python
	@$(or $(PYTHON),python3) Benchmarks/lm_eval/run.py --bin $(BIN)

api-fuzz: build ## ask the server all that its OpenAPI document allows, and more (schemathesis)
	@scripts/api-fuzz.sh

compare: build ## measure Lathe beside other engines (from PyPI); writes docs/benchmarks.md: ARGUMENTS="--models gpt2"
	@python3 Benchmarks/compare/compare.py --lathe $(BIN)/lathe $(ARGUMENTS)

quality: build ## measure what every recipe costs the bundled model; writes docs/quality.md and docs/quality.svg
	@scripts/quality.sh $(BIN)/lathe .build/quality

proof: build ## prove the memory budget: gpt2-xl in 700 MB and more, inside a hard limit (half an hour, 25 GB)
	@python3 Benchmarks/proof.py --lathe $(BIN)/lathe --work .build/proof

bench-kernels: ## time each kernel that this machine runs against its bound: JSON=1, KERNELS="family kernel rows"
	@mkdir -p $(WORK)
	@clang -O2 -DNDEBUG -std=gnu11 -ISources/CKernels/include Benchmarks/kernels/*.c \
		$$(find Sources/CKernels -name '*.c') -lpthread -lm -o $(WORK)/kernels
	@$(WORK)/kernels $(if $(JSON),--json) $(KERNELS)

fuzz: setup ## fuzz the readers of files: FUZZ_SECONDS=60 for each
	@Tests/Fuzz/run.sh $(FUZZ_SECONDS)

clean: ## remove everything that was built
	@rm -rf .build .build-* Tests/Fuzz/.build
