// Package bgp measures the figures of BGP and BFD that need the whole speaker:
// the real binary with a real API server on one side and real FRR and BIRD on the
// other.
//
// There is no cluster around it, so that little else uses the processors: an API
// server and etcd without nodes, one Node object, and one speaker. The program
// runs once more as a child in namespaces of its own (network, mounts and
// processes), where everything lives: the child's network is the node's, the
// routers have others, and a bridge joins them. Whatever happens to the program,
// the kernel ends all of it with the child.
//
// What every figure means is in docs/performance.md; `make bench RUN=bgp` runs
// them and compares with bench/budgets.txt. Each benchmark logs the load of the
// machine with what it measured. They run in the order of the files' names, and
// the one with the most objects comes last: to remove them takes a minute.
package bgp
