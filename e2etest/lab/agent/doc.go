// Package agent is the lab's kubelet: it registers a node, and runs the pods
// that the API server binds to it as processes of this machine, without a
// container engine.
//
// It knows Kubernetes' node and pod API, and keeps to what a kubelet promises
// there: security contexts, probes, volumes that follow their sources, tokens
// that are renewed, graceful ends. How a process is confined is known by package
// sandbox, how a pod is connected by package podnet. It knows nothing of Herald.
//
// The map: agent.go wires and owns everything; node.go is the Node object and its
// Lease; worker.go is one pod's life, container.go one container's; report.go
// writes pod status, which status.go computes; env.go, downward.go, payload.go,
// security.go and expand.go are pure. README.md says what differs from a kubelet.
package agent
