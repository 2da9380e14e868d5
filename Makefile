# Each of these does its own set-up on a fresh machine: Rust, a C compiler and Python suffice.
.PHONY: help demo test sim torture bench compare compare-durable compare-locks clean

help:
	@echo 'make demo     start three replicas, use them, kill one, see the counter go on'
	@echo 'make test     every check and every test'
	@echo 'make sim      10 000 simulated clusters of each kind under faults (SIM_SEEDS=n: so many)'
	@echo 'make torture  real replicas under every fault, judged by a checker (root, 40 minutes)'
	@echo 'make bench    calls per second and percentiles of three replicas here, and the disk'
	@echo 'make compare  the same load against etcd, Redis and ours (installs Debian packages)'
	@echo 'make compare-durable  the same with everything on the disk'
	@echo 'make compare-locks  many clients that want one lock, of etcd, ZooKeeper and ours'
	@echo 'make clean    remove what these made'

demo:
	@scripts/demo

test:
	@scripts/test

sim:
	@SIM_SEEDS=$${SIM_SEEDS:-10000} cargo test -p concoord-core --test it -- --nocapture sim beside_a_witness
torture:
	@scripts/torture
	@scripts/torture --durable

bench:
	@scripts/bench

compare:
	@benches/compare/run

compare-durable:
	@benches/compare/run durable

compare-locks:
	@benches/compare/run locks

clean:
	rm -rf target .venv
