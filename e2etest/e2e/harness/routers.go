//go:build lab

package harness

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/e2etest/lab"
)

// Router is a router of the lab, with the verbs of a story. What it embeds returns
// what there is now; the verbs here wait for it and end the test if it does not
// come.
type Router struct {
	*lab.RunningRouter
	h *Test
}

// Router finds a router of the lab's topology.
func (h *Test) Router(name string) *Router {
	h.Helper()
	r, err := h.Cluster.Router(name)
	h.Must(err)
	return &Router{RunningRouter: r, h: h}
}

// Routers are all routers of the lab's topology.
func (h *Test) Routers() []*Router {
	var out []*Router
	for _, r := range h.Cluster.Routers() {
		out = append(out, &Router{RunningRouter: r, h: h})
	}
	return out
}

// PeersOf are the routers a node is to peer with: what a BGPPeer object names.
func (h *Test) PeersOf(node string) []lab.Neighbor {
	h.Helper()
	peers, err := h.State.Layout.Peers(node)
	h.Must(err)
	return peers
}

// Neighbor waits until the router has a neighbour with an address that satisfies
// a condition, and returns it; nil is the condition that the session is up.
func (r *Router) Neighbor(addr netip.Addr, ok func(lab.BGPNeighbor) error) (found lab.BGPNeighbor) {
	r.h.Helper()
	if ok == nil {
		ok = func(n lab.BGPNeighbor) error {
			if !n.Up() {
				return fmt.Errorf("it is %s (%s)", n.State, n.LastReset)
			}
			return nil
		}
	}
	r.h.Eventually(Patience, func() error {
		list, err := r.Neighbors(r.h.Ctx)
		if err != nil {
			return err
		}
		for _, n := range list {
			if n.Addr == addr {
				found = n
				if err := ok(n); err != nil {
					return fmt.Errorf("neighbour %s of %s: %w", addr, r.Name, err)
				}
				return nil
			}
		}
		return fmt.Errorf("%s has no neighbour %s", r.Name, addr)
	})
	return found
}

// NeighborNode is Neighbor for a node's address of a family.
func (r *Router) NeighborNode(node string, v6 bool, ok func(lab.BGPNeighbor) error) lab.BGPNeighbor {
	r.h.Helper()
	n, err := r.h.State.Layout.Node(node)
	r.h.Must(err)
	return r.Neighbor(n.Interfaces[0].Addr(v6), ok)
}

// Established waits until exactly these nodes have sessions with the router, and
// all the sessions that there are are up.
func (r *Router) Established(nodes ...string) {
	r.h.Helper()
	slices.Sort(nodes)
	r.h.Eventually(2*Patience, func() error {
		list, err := r.Neighbors(r.h.Ctx)
		if err != nil {
			return err
		}
		var got []string
		for _, n := range list {
			if _, err := r.h.State.Layout.Node(n.Host); err != nil {
				continue // another router
			}
			if !n.Up() {
				return fmt.Errorf("%s: the session with %s (%s) is %s", r.Name, n.Host, n.Addr, n.State)
			}
			got = append(got, n.Host)
		}
		slices.Sort(got)
		if got = slices.Compact(got); !slices.Equal(got, nodes) {
			return fmt.Errorf("%s has sessions with the nodes %v, want %v", r.Name, got, nodes)
		}
		return nil
	})
}

// Untouched notes the router's sessions; the check that it returns fails the test
// if one of them was lost or made anew since.
func (r *Router) Untouched() (check func()) {
	r.h.Helper()
	look := func() map[string]string {
		list, err := r.Neighbors(r.h.Ctx)
		r.h.Must(err)
		seen := map[string]string{}
		for _, n := range list {
			seen[n.Addr.String()] = fmt.Sprintf("%s, %d times up, %d times lost", n.State, n.Ups, n.Downs)
		}
		return seen
	}
	before := look()
	return func() {
		r.h.Helper()
		after := look()
		for addr, was := range before {
			if after[addr] != was {
				r.h.Errorf("%s: the session with %s is %q, before %q", r.Name, addr, after[addr], was)
			}
		}
	}
}

// RoutesVia waits until the next hops that the router's kernel has for a prefix
// are exactly those hosts, each once; none means that it has no route.
func (r *Router) RoutesVia(prefix netip.Prefix, hosts ...string) []lab.NextHop {
	r.h.Helper()
	hosts = slices.Sorted(slices.Values(hosts))
	var hops []lab.NextHop
	r.h.Eventually(2*Patience, func() (err error) {
		hops, err = r.Routes(r.h.Ctx, prefix)
		var got []string
		for _, hop := range hops {
			got = append(got, hop.Host)
		}
		slices.Sort(got)
		if err == nil && !slices.Equal(got, hosts) {
			err = fmt.Errorf("%s routes %s over %v (%v), want %v", r.Name, prefix, got, hops, hosts)
		}
		return err
	})
	return hops
}

// RoutesAddr is RoutesVia for the prefix of one address.
func (r *Router) RoutesAddr(addr netip.Addr, hosts ...string) []lab.NextHop {
	r.h.Helper()
	return r.RoutesVia(netip.PrefixFrom(addr, addr.BitLen()), hosts...)
}

// PathsOf waits until the paths that an FRR router has for a prefix satisfy a
// condition, and returns them.
func (r *Router) PathsOf(prefix netip.Prefix, ok func([]lab.BGPPath) error) (paths []lab.BGPPath) {
	r.h.Helper()
	r.h.Eventually(Patience, func() (err error) {
		if paths, err = r.Paths(r.h.Ctx, prefix); err != nil {
			return err
		}
		if err = ok(paths); err != nil {
			err = fmt.Errorf("paths of %s for %s: %w", r.Name, prefix, err)
		}
		return err
	})
	return paths
}

// PathFrom waits until a node announces a prefix to an FRR router in a way that
// satisfies a condition, nil for any, and returns its path.
func (r *Router) PathFrom(node string, prefix netip.Prefix, ok func(lab.BGPPath) error) (path lab.BGPPath) {
	r.h.Helper()
	r.PathsOf(prefix, func(paths []lab.BGPPath) error {
		i := slices.IndexFunc(paths, func(p lab.BGPPath) bool { return p.Host == node })
		if i < 0 {
			return fmt.Errorf("%s announces none", node)
		}
		path = paths[i]
		if ok == nil {
			return nil
		}
		if err := ok(path); err != nil {
			return fmt.Errorf("%s announces %s: %w", node, path.Raw, err)
		}
		return nil
	})
	return path
}

// BFDWith waits until the router's BFD session with an address satisfies a
// condition, and returns it; nil is the condition that it is up.
func (r *Router) BFDWith(addr netip.Addr, ok func(lab.BFDPeer) error) (found lab.BFDPeer) {
	r.h.Helper()
	if ok == nil {
		ok = func(p lab.BFDPeer) error {
			if p.Status != "up" {
				return fmt.Errorf("it is %s (%s)", p.Status, p.Diagnostic)
			}
			return nil
		}
	}
	r.h.Eventually(Patience, func() error {
		list, err := r.BFDPeers(r.h.Ctx)
		if err != nil {
			return err
		}
		for _, p := range list {
			if p.Addr == addr {
				found = p
				if err := ok(p); err != nil {
					return fmt.Errorf("BFD of %s with %s: %w", r.Name, addr, err)
				}
				return nil
			}
		}
		return fmt.Errorf("%s has no BFD session with %s", r.Name, addr)
	})
	return found
}

// Reconfigure gives the router an edited form of its configuration until the test
// ends. Sessions that the edit does not concern stay up.
func (r *Router) Reconfigure(edit func(text string) string) {
	r.h.Helper()
	before, err := r.Config()
	r.h.Must(err)
	after := edit(before)
	if after == before {
		r.h.Fatalf("the edit of the configuration of %s changes nothing:\n%s", r.Name, before)
	}
	r.h.OnEnd("give "+r.Name+" its configuration back", func(ctx context.Context) error { return r.Configure(ctx, before) })
	r.h.Must(r.Configure(r.h.Ctx, after))
}

// StopDaemon stops a daemon of the router: bgpd, bfdd, zebra or bird.
func (r *Router) StopDaemon(daemon string) (start func()) {
	r.h.Helper()
	return r.h.fault("start "+daemon+" on "+r.Name, r.Stop(r.h.Ctx, daemon), func(ctx context.Context) error {
		return r.Start(ctx, daemon)
	})
}

// Unpower takes the router's power; boot gives it back and returns when its
// daemons are configured.
func (r *Router) Unpower() (boot func()) {
	r.h.Helper()
	return r.h.fault("boot "+r.Name, r.PowerOff(r.h.Ctx), r.PowerOn)
}

// Flows opens n connections from the client to port 80 of an address and returns
// how many the pods of each node answered. A connection without an answer fails
// the test.
func (h *Test) Flows(addr netip.Addr, n int) (byNode map[string]int) {
	h.Helper()
	client, err := h.clientFor(addr)
	h.Must(err)
	f, err := h.Cluster.Flows(h.Ctx, client, netip.AddrPortFrom(addr, 80), n)
	h.Must(err)
	if f.Failed > 0 {
		h.Errorf("%s: %d of %d connections got no answer: %v", addr, f.Failed, n, f.Err)
	}
	pods, err := h.Kube.CoreV1().Pods(h.Namespace).List(h.Ctx, metav1.ListOptions{})
	h.Must(err)
	byNode = map[string]int{}
	for _, p := range pods.Items {
		if count := f.ByPod[p.Name]; count > 0 {
			byNode[p.Spec.NodeName] += count
			delete(f.ByPod, p.Name)
		}
	}
	if len(f.ByPod) > 0 {
		h.Errorf("%s: pods of nobody's answered: %v", addr, f.ByPod)
	}
	h.Logf("%s: %d connections, answered on %v", addr, n, byNode)
	return byNode
}

// Serves waits until connection after connection is answered at port 80 of an
// address: a route may be there before every node's kube-proxy knows the Service.
func (h *Test) Serves(addr netip.Addr) {
	h.Helper()
	client, err := h.clientFor(addr)
	h.Must(err)
	h.Eventually(Patience, func() error {
		f, err := h.Cluster.Flows(h.Ctx, client, netip.AddrPortFrom(addr, 80), 20)
		if err == nil && f.Failed > 0 {
			err = fmt.Errorf("%s: %d of 20 connections got no answer: %w", addr, f.Failed, f.Err)
		}
		return err
	})
}

// show is what a router says of itself, for the dump of a failed test.
func show(ctx context.Context, r *lab.RunningRouter) (string, error) {
	if r.Kind == lab.BIRD {
		var out strings.Builder
		for _, command := range []string{"show protocols all", "show bfd sessions", "show route all"} {
			text, err := r.Birdc(ctx, command)
			out.WriteString(text)
			if err != nil {
				return out.String(), err
			}
		}
		return out.String(), nil
	}
	return r.Vtysh(ctx, "show bgp summary", "show bgp ipv4 unicast", "show bgp ipv6 unicast", "show bfd peers",
		"show bgp neighbors", "show ip route", "show ipv6 route", "show running-config")
}
