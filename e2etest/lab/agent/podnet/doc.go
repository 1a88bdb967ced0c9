// Package podnet gives a pod its network: a namespace with a loopback and one
// veth, addresses from the node's pod CIDRs, and routes both ways.
//
// The veth is routed, not bridged: the node has one host route per pod and the
// pod a default route to the node. So every packet between two pods of a node
// passes the node's IP layer, where kube-proxy's rules see both directions of a
// connection; on a bridge the answer would take a short cut past them. Neighbour
// entries are permanent and duplicate address detection is off, so a pod can
// talk from its first moment.
//
// It knows netlink and addresses; it knows nothing of Kubernetes. Namespaces
// have no name and live by a file descriptor: when the agent ends in whatever
// way, the kernel removes namespace, veth and routes.
package podnet
