// Package lab is a real Kubernetes cluster on one machine, made of processes and
// network namespaces: etcd, the API server, the controllers and the scheduler;
// nodes with a real kube-proxy and an agent that runs pods as processes; clients;
// and the network between them, flat or with real routers (FRR, BIRD) that speak
// BGP. Tests, benchmarks and the demo run on it.
//
// This package is the side that users see: it starts a lab, finds one that runs,
// and asks it for things. The lab itself is held by another process (package
// supervisor, in the lab command), so that a test that crashes leaves nothing
// behind. The package knows nothing of Herald: what is installed in the cluster
// is its caller's business.
package lab
