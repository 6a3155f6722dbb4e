# make demo and make test do everything from a bare checkout; make help lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

CUDA_FLAG :=

# PyTorch and Hugging Face packages to compare with, one folder for each list of versions.
CACHE := $(or $(KOALA_LM_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/koala-lm)
PEERS := $(CACHE)/peers-$(shell sha256sum bench/peers.txt | cut -c1-12)
PEER_PYTHON := PYTHONPATH=$(PEERS) PYTHONDONTWRITEBYTECODE=1 python3

TOKENIZER_PEERS := $(CACHE)/peers-tokenizers-$(shell sha256sum bench/tokenizers.txt | cut -c1-12)
TOKENIZER_PYTHON := PYTHONPATH=$(TOKENIZER_PEERS) PYTHONDONTWRITEBYTECODE=1 python3

.PHONY: help setup setup-cuda build demo demo-data study-data study study-quick study-full test torture torture-short race race-short lint bench peers bench-peers compare-models bench-optimizers check-cuda compare-tokenizers bench-tokenizers clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# go.work names folders that exist only after set-up, so set-up runs without it.
setup: ## fetch libtorch, prepare gotch, compile the native kernels (into the cache folder)
	@command -v go >/dev/null || { echo "setup: go not found: install Go 1.26 or later (https://go.dev/doc/install)" >&2; exit 1; }
	@GOWORK=off go run ./internal/setup $(CUDA_FLAG)

setup-cuda: CUDA_FLAG := -cuda
setup-cuda: setup ## the same, with the CUDA libraries

build: setup ## leave koala-lm and koala-lm-engine in bin/
	@go build -trimpath -ldflags='-s -w' -o bin/ ./cmd/...

# Two runs that differ in the optimizer alone, on text that is on every machine
# with Go: the documentation of its standard library.
DEMO_DATA := prepared/godoc
DEMO_STEPS := 1500

demo-data: build
	@bin/koala-lm prepare --verify $(DEMO_DATA) >/dev/null 2>&1 || \
		bin/koala-lm prepare --corpus godoc --vocab-size 8000 --valid 20000 --test 20000 --out $(DEMO_DATA) --force

demo: demo-data ## train with KOALA-K and with SGD on the default corpus and compare
	@bin/koala-lm train --data $(DEMO_DATA) --steps $(DEMO_STEPS) --name demo-koala
	@bin/koala-lm train --data $(DEMO_DATA) --steps $(DEMO_STEPS) --name demo-sgd --set optimizer.kind=sgd
	@bin/koala-lm report list --limit 2 --format table --quiet

# Five optimizers on three models, each over its rate and its ending (study/). Killed
# and made again, a study continues where it was. STUDY_DATA=prepared/mine trains the
# GPT on other characters, STUDY_PAGE is the page to write.
JOBS ?= 2
STUDY_WORDS := $(DEMO_DATA)
STUDY_BPE := prepared/godoc-bpe
STUDY_CHARS := prepared/godoc-char
STUDY_DATA ?= $(STUDY_CHARS)
STUDY_PAGE ?= runs/$@.md
STUDY_RUN = PATH="$(CURDIR)/bin:$$PATH" STUDY_DATA=$(STUDY_DATA) STUDY_WORDS=$(STUDY_WORDS) STUDY_BPE=$(STUDY_BPE) \
	STUDY_STORE=runs/$@.db JOBS=$(JOBS) study/run.sh $(STUDY_PAGE)

study-data: demo-data
	@bin/koala-lm prepare --verify $(STUDY_CHARS) >/dev/null 2>&1 || \
		bin/koala-lm prepare --corpus godoc --tokenizer char --valid 50000 --test 50000 --out $(STUDY_CHARS) --force
	@bin/koala-lm prepare --verify $(STUDY_BPE) >/dev/null 2>&1 || \
		bin/koala-lm prepare --corpus godoc --tokenizer bpe --vocab-size 2000 --valid 40000 --test 40000 --out $(STUDY_BPE) --force

study: study-data ## search and compare five optimizers on three models (two hours on 2 cores)
	@$(STUDY_RUN)

study-quick: study-data ## the same with runs of 400 steps (half an hour)
	@$(STUDY_RUN) --set train.steps=400 --set eval.every=100

study-full: study-data ## the same with runs of 10,000 steps (a GPU, or a night)
	@$(STUDY_RUN) --set train.steps=10000 --set eval.every=1000

test: setup ## run all tests
	go test ./...

torture: setup ## kill training 200 times, pause it 50 times and make disks fail; wants the same bits each time
	go test ./cmd/koala-lm-engine -run 'Killed|TakenOver|Disk|Calls|Many|Deleted' -torture -v -count 1 -timeout 2h
	go test ./cmd/internal/endtoend -run Faults -faults 40 -v -count 1 -timeout 2h

torture-short: setup ## kill training 24 times, and let one call of each kind fail
	go test ./cmd/koala-lm-engine -run 'Killed|TakenOver|Many' -kills 12 -count 1 -timeout 20m
	go test ./cmd/internal/endtoend -run Faults -faults 1 -v -count 1 -timeout 20m

.PHONY: fuzz fuzz-short vulncheck
fuzz: setup ## give every reader the dearest files we know, and mutated inputs for an hour, through the built programs
	go test ./cmd/internal/endtoend -run 'Bounds|Mutations' -mutate 1h -v -count 1 -timeout 2h

fuzz-short: setup ## the same for a minute, from one seed
	go test ./cmd/internal/endtoend -run 'Bounds|Mutations' -mutate 1m -mutate-seed 1 -v -count 1

# The packages whose goroutines share memory. Those that link libtorch take a
# minute more to build, once.
RACE := ./distributed/... ./cmd/internal/interrupt ./tracking/... ./sweep/... ./data/... ./lm/checkpoint ./run

race-short: setup ## run the tests of packages with goroutines under the race detector
	go test -race -short $(RACE)

test-hosts: setup ## train on several hosts (network namespaces: as root), and cut one off
	go test ./cmd/koala-lm-engine -run Hosts -hosts -v -count 1

race: setup ## run all tests under the race detector
	go test -race ./...

lint: setup ## gofmt, go vet, staticcheck
	@test -z "$$(gofmt -l .)" || { echo "not gofmt-ed:"; gofmt -l .; exit 1; }
	go vet ./...
	go tool staticcheck ./...

vulncheck: setup ## look for known vulnerabilities in what the code calls (asks Go's database over the network)
	go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

# The training steps of the two models of bench-peers, then optimizers and parts.
bench: build ## run the benchmarks
	@bin/koala-lm bench --device cpu
	@echo
	@bin/koala-lm bench --device cpu --config gpt-char-cpu --vocab 65 --steps 100
	@echo
	@(go test -run '^$$' -bench 'Step/lstm-tied/threads/wd=0$$' -benchtime 300ms ./koala && \
		go test -run '^$$' -bench . -benchtime 300ms ./data/... ./internal/torch ./tracking) | grep '^Benchmark'

peers: | $(PEERS) ## install PyTorch and the other peers into the cache folder

$(PEERS):
	@mkdir -p $(CACHE)
	@rm -rf $@.tmp && python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target $@.tmp -r bench/peers.txt
	@mv -T $@.tmp $@

# BENCH_FLAGS="--cases lstm gpt lstm-koala --rounds 5" asks for more.
bench-peers: build peers ## time training steps and generation here and in PyTorch and transformers, side by side
	@$(PEER_PYTHON) bench/side_by_side.py $(BENCH_FLAGS)
	@echo
	@$(PEER_PYTHON) bench/generate_peer.py

# MODELS="FOLDER..." holds folders of your own in place of the random models.
compare-models: build peers ## hold models of every family against transformers: loss, text, --init, export
	@$(PEER_PYTHON) bench/compare_models.py $(MODELS)

bench-optimizers: setup peers ## time optimizer steps, ours and PyTorch's, side by side
	@go test -c -o bin/koala.test ./koala
	@$(PEER_PYTHON) bench/optimizers_peer.py bin/koala.test

# What checks a machine with a GPU goes there as one archive: it needs no Go, only PyTorch.
CUDA_CHECK := bin/koala-lm-cuda

check-cuda: build ## pack tests and programs for a machine with an NVIDIA GPU and PyTorch, without Go
	@rm -rf $(CUDA_CHECK) && mkdir -p $(CUDA_CHECK)/bin $(CUDA_CHECK)/lib $(CUDA_CHECK)/bench
	@for p in internal/torch/torchtest koala lm cmd/internal/endtoend; do \
		mkdir -p $(CUDA_CHECK)/$$p && go test -c -ldflags='-s -w' -o $(CUDA_CHECK)/$$p/test ./$$p && \
		{ test ! -d $$p/testdata || cp -r $$p/testdata $(CUDA_CHECK)/$$p/; } || exit 1; done
	@go build -ldflags='-s -w' -o $(CUDA_CHECK)/bin/ ./cmd/koala-lm ./cmd/koala-lm-engine
	@cp $$(sed -n 's/.* -L\([^ ]*\) .*/\1/p' internal/torch/link_generated.go)/*.so $$(sed -n 's/.*=> "\(.*\)"/\1/p' go.work)/libtch/lib/*.so $(CUDA_CHECK)/lib/
	@strip -g $(CUDA_CHECK)/lib/*.so
	@cp bench/check_cuda.py $(CUDA_CHECK)/ && cp bench/*_peer.py bench/peer.py bench/lstm_model.py $(CUDA_CHECK)/bench/
	@tar czf $(CUDA_CHECK).tar.gz -C $(dir $(CUDA_CHECK)) $(notdir $(CUDA_CHECK)) && rm -r $(CUDA_CHECK)
	@echo "$(CUDA_CHECK).tar.gz, $$(du -m $(CUDA_CHECK).tar.gz | cut -f1) MB: there, tar xzf koala-lm-cuda.tar.gz && python3 koala-lm-cuda/check_cuda.py"

# Needs neither libtorch nor PyTorch. TOKENIZERS="FOLDER x.model" adds tokenizer files,
# TEXTS="FOLDER a.txt" adds texts.
compare-tokenizers: | $(TOKENIZER_PEERS) ## hold tokenizer files and what is trained here against other programs, id by id
	@GOWORK=off go build -o bin/ ./cmd/koala-lm
	@status=0; $(TOKENIZER_PYTHON) bench/tokenizer_files.py --texts $(TEXTS) -- $(TOKENIZERS) || status=1; \
		$(TOKENIZER_PYTHON) bench/tokenizers_peer.py || status=1; exit $$status

# TOKENIZERS names tokenizer.json files of byte-level BPE, TEXTS a varied text.
bench-tokenizers: | $(TOKENIZER_PEERS) ## time encoding beside other programs, on one thread
	@GOWORK=off go build -o bin/ ./cmd/koala-lm
	@$(TOKENIZER_PYTHON) bench/tokenizers_speed.py --texts $(TEXTS) --tokenizers $(TOKENIZERS)

$(TOKENIZER_PEERS):
	@mkdir -p $(CACHE)
	@rm -rf $@.tmp && python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target $@.tmp -r bench/tokenizers.txt
	@mv -T $@.tmp $@

clean: ## remove what was built in this checkout (not the cache folder)
	rm -rf bin go.work go.work.sum internal/torch/link_generated.go
