# What can be done with this repository. On a Debian-like machine each target first installs what it needs and lacks
# (tests/setup.sh; packages need root), so `make demo` and `make test` work on a fresh one.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.PHONY: help demo test test-all test-k8s test-matrix bench bench-metrics bench-k8s bench-updates bench-webhook build install-yaml clean

# Where rustup puts cargo, should it be installed just now.
export PATH := $(PATH):$(HOME)/.cargo/bin
# Versions of Flink and of everything else: FLINK_1, FLINK_2, FLINK_MATRIX.
VERSIONS := source tests/versions.env
# Each test against Flink is a JobManager and a TaskManager of its own.
export RUST_TEST_THREADS ?= 2

help:
	@cat <<'END'
	make demo         a Flink job survives a SIGTERM and a kill -9 before your eyes, in about two minutes
	make test         format, lints, documentation, and all tests; against real Flink 1.20 and 2.3
	make test-k8s     the tests in pods of a real Kubernetes node; with SCENARIO=name only those whose name has it, and
	                  node and namespace stay for a look: tests/cluster/node.sh exec target/k8s kubectl get pods -A
	make test-all     these, the older versions of Flink, a current Prometheus, and the scenarios in pods with the modes exchanged
	make test-matrix  the tests against the older versions of Flink and against cert-manager, and an Apache Beam pipeline
	make bench        what Drey costs, in time and memory
	make bench-metrics  what a scrape through Drey costs beside a direct one
	make bench-k8s    what it costs and saves in pods of a real Kubernetes node, beside plain Flink; 20 minutes
	make bench-updates  downtime while configuration or image change in those pods, beside the usual script; 15 minutes
	make bench-webhook  admissions per second, their latency, and the memory that the webhook takes
	make build        the static binary, for release
	make install-yaml renders deploy/install.yaml from deploy/chart
	make clean        remove what was built here; downloads stay in ~/.cache/drey
	END

demo:
	@$(VERSIONS)
	tests/setup.sh tools
	drey=$$(cargo build --locked --message-format=json-render-diagnostics | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
	paths=$$(tests/setup.sh flink $$FLINK_2 job $$FLINK_2 java $$FLINK_2)
	mapfile -t flink <<<"$$paths"
	python3 -B tests/demo/demo.py "$$drey" "$${flink[@]}"

test:
	@$(VERSIONS)
	tests/setup.sh default stores prometheus chromium cluster >/dev/null
	set -x
	cargo fmt --check
	cargo clippy --locked --all-targets --all-features -- -D warnings
	cargo clippy --locked --test k8s --all-features -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items
	cargo test --locked --features kill-points
	{ set +x; } 2>/dev/null
	$(MAKE) --no-print-directory test-k8s
	echo "Left out, and in make test-all: the tests against Flink $$FLINK_MATRIX, cert-manager and with Apache Beam (make test-matrix), a current Prometheus, and the scenarios in pods with native and standalone mode exchanged, with $(ONLY_ALL). Left out of both: the figures of make bench."

test-all: test test-matrix
	tests/setup.sh prometheus-3 >/dev/null
	export DREY_TEST_PROMETHEUS=prometheus-3
	cargo test --locked --features kill-points --test it -- monitoring::
	# In pods the scenario of the metrics runs with it, too.
	DREY_TEST_EXCHANGE_MODES=1 $(MAKE) --no-print-directory test-k8s ALL=1

# What does something to the node itself, to the directory behind its volumes, or to the whole cluster: left out where the
# cluster is not our own.
OWN_NODE := away:: baseline:: injection:: lost_node:: metrics:: object_store:: a_deleted_namespace a_drain_of_the_node a_killed_jobmanager \
	a_killed_sidecar a_new_image a_restart_of_the_kubelet an_orderly_shutdown an_upgrade_changes the_documented_pipelines

# Scenarios whose parts are in others as well: only in `make test-all`, or by name.
ONLY_ALL := a_bare_pod a_suspended_job a_standalone_job_with_the_annotation in_standalone_mode_a_good_edit an_annotation_holds

# One node for all scenarios, two of which run at a time. Without SCENARIO it ends with the tests, however they end.
# With DREY_TEST_KUBECONFIG an existing cluster instead.
test-k8s:
	@skip=()
	if [[ -n "$${DREY_TEST_KUBECONFIG:-}" ]]; then
		tests/setup.sh tools
		for name in $(OWN_NODE); do skip+=(--skip "$$name"); done
		echo "Left out, since they need a node of the tests' own: $(OWN_NODE)"
	else
		tests/setup.sh tools stores prometheus cluster >/dev/null
		if [[ -z "$(SCENARIO)" ]]; then trap 'tests/cluster/node.sh down target/k8s' EXIT; else export DREY_TEST_KEEP=1; fi
	fi
	if [[ -z "$(SCENARIO)$(ALL)" ]]; then for name in $(ONLY_ALL); do skip+=(--skip "$$name"); done; fi
	set -x
	cargo test --locked --features kill-points --test k8s -- $(SCENARIO) "$${skip[@]}"

test-matrix:
	@$(VERSIONS)
	tests/setup.sh tools matrix beam kubernetes etcd helm cert-manager >/dev/null
	set -x
	cargo test --locked --features test-matrix --test it -- matrix:: beam::
	cargo test --locked --features test-matrix --test it_webhook -- cert_manager::

bench:
	@$(VERSIONS)
	tests/setup.sh tools
	drey=$$(cargo build --locked --release --message-format=json-render-diagnostics | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
	paths=$$(tests/setup.sh flink $$FLINK_2 job $$FLINK_2 java $$FLINK_2)
	mapfile -t flink <<<"$$paths"
	python3 -B tests/bench/bench.py "$$drey" "$${flink[@]}"

bench-metrics:
	@$(VERSIONS)
	tests/setup.sh tools
	drey=$$(cargo build --locked --release --message-format=json-render-diagnostics | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
	paths=$$(tests/setup.sh flink $$FLINK_2 java $$FLINK_2 metrics-proxies)
	mapfile -t flink <<<"$$paths"
	cargo bench --locked --bench metrics
	python3 -B tests/bench/metrics.py "$$drey" "$${flink[@]}"

bench-k8s:
	@$(VERSIONS)
	tests/setup.sh tools cluster >/dev/null
	drey=$$(cargo build --locked --release --message-format=json-render-diagnostics | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
	python3 -B tests/bench/kubernetes.py "$$drey" "$$FLINK_2"

bench-updates:
	@$(VERSIONS)
	tests/setup.sh tools cluster >/dev/null
	drey=$$(cargo build --locked --release --message-format=json-render-diagnostics | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
	python3 -B tests/bench/updates.py "$$drey" "$$FLINK_2"

bench-webhook:
	@tests/setup.sh tools
	cargo bench --locked --bench webhook

build:
	@tests/setup.sh tools
	drey=$$(cargo build --locked --release --message-format=json-render-diagnostics | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
	ls -l "$$drey"

install-yaml:
	@helm=$$(tests/setup.sh helm)
	{
		echo "# Drey's webhook for kubectl apply -f, rendered from deploy/chart by: make install-yaml"
		"$$helm" template drey deploy/chart --namespace drey-system --set namespace.create=true
	} >deploy/install.yaml.new
	mv deploy/install.yaml.new deploy/install.yaml

clean:
	for node in target/k8s target/k8s-bench; do [[ ! -e $$node ]] || tests/cluster/node.sh down "$$node"; done
	cargo clean
