//go:build lab

package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/lab"
)

// The autonomous systems of the lab, as BGPPeers name them.
const (
	ebgp = "myASN: 64500, peerASN: 64601"
	ibgp = "myASN: 64601, peerASN: 64601"
)

// A plane is a subnet between all nodes and the router, beside the one that they
// have anyway, with neighbours of its own on the router: what a test does to its
// sessions there, no other test notices.
type plane struct {
	*stage
	number byte
	group  string
}

// plane makes plane number i of the test, 0 to 7. The router takes the nodes of
// the subnet as neighbours of an AS; each line of options goes behind "neighbor
// GROUP" in its configuration.
func (s *stage) plane(i int, nodesASN string, options ...string) *plane {
	s.Helper()
	raw := s.block.V4(i).As4() // a number that is the test's own
	return s.planeAt(raw[3], nodesASN, options...)
}

// planeAt is plane for a number that no other test has, now or later: FRR does not
// forget the password of a prefix that it no longer listens for. Blocks have none
// above 200.
func (s *stage) planeAt(number byte, nodesASN string, options ...string) *plane {
	s.Helper()
	p := &plane{stage: s, number: number, group: fmt.Sprintf("plane%d", number)}
	s.OnEnd("remove the addresses of "+p.group, func(ctx context.Context) error { return p.address(ctx, "del") })
	s.Must(p.address(s.Ctx, "replace"))
	lines := []string{
		"neighbor " + p.group + " peer-group",
		"neighbor " + p.group + " remote-as " + nodesASN,
	}
	for _, o := range options {
		lines = append(lines, "neighbor "+p.group+" "+o)
	}
	var gone []string
	for _, family := range []string{"ipv4", "ipv6"} {
		lines = append(lines, "address-family "+family+" unicast", "neighbor "+p.group+" activate", "exit-address-family")
	}
	for _, a := range []netip.Addr{p.of(0, false), p.of(0, true)} {
		listen := fmt.Sprintf("bgp listen range %s peer-group %s", subnet(a), p.group)
		lines, gone = append(lines, listen), append(gone, "no "+listen)
	}
	s.OnEnd("remove "+p.group+" from the router", func(ctx context.Context) error {
		return s.onTor(ctx, append(gone, "no neighbor "+p.group+" peer-group")...)
	})
	s.Must(s.onTor(s.Ctx, lines...))
	return p
}

// onTor changes the router's BGP configuration.
func (s *stage) onTor(ctx context.Context, lines ...string) error {
	out, err := s.tor.Vtysh(ctx, append([]string{"configure terminal", fmt.Sprintf("router bgp %d", s.tor.ASN)}, lines...)...)
	if err == nil && strings.Contains(out, "%") {
		err = fmt.Errorf("%s refuses %q: %s", s.tor.Name, lines, out)
	}
	return err
}

// router changes the router's BGP configuration, for all neighbours of the plane.
func (p *plane) router(option string) {
	p.Helper()
	line := "neighbor " + p.group + " " + option
	if no, ok := strings.CutPrefix(option, "no "); ok {
		line = "no neighbor " + p.group + " " + no
	}
	p.Must(p.onTor(p.Ctx, line))
}

// address adds or removes the plane's addresses on all machines.
func (p *plane) address(ctx context.Context, verb string) error {
	for host, number := range map[string]byte{p.tor.Name: 0, "node1": 1, "node2": 2, "node3": 3} {
		for _, v6 := range []bool{false, true} {
			a := p.of(number, v6)
			argv := []string{"ip", "address", verb, netip.PrefixFrom(a, subnet(a).Bits()).String(), "dev", "eth0"}
			if v6 && verb == "replace" {
				argv = append(argv, "nodad")
			}
			// What a boot has removed cannot be removed again.
			if _, err := p.Exec(ctx, host, argv...); err != nil && verb == "replace" {
				return err
			}
		}
	}
	return nil
}

// of is an address in the plane: of node 1 to 3, or of the router, 0.
func (p *plane) of(node byte, v6 bool) netip.Addr {
	host := byte(1)
	if node > 0 {
		host = 10 + node
	}
	if v6 {
		return netip.AddrFrom16([16]byte{0xfd, 0x00, 0x00, 0x09, 7: p.number, 15: host})
	}
	return netip.AddrFrom4([4]byte{10, 9, p.number, host})
}

// node is a node's address in the plane.
func (p *plane) node(name string, v6 bool) netip.Addr {
	return p.of(name[len(name)-1]-'0', v6)
}

func subnet(a netip.Addr) netip.Prefix {
	bits := 24
	if a.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// inPlane is the node with an address in whichever plane, "" if there is none.
func inPlane(a netip.Addr) string {
	if !netip.MustParsePrefix("10.9.0.0/16").Contains(a) && !netip.MustParsePrefix("fd00:9::/48").Contains(a) {
		return ""
	}
	raw := a.AsSlice()
	return fmt.Sprintf("node%d", raw[len(raw)-1]-10)
}

// peer applies a BGPPeer for the router's address in the plane.
func (p *plane) peer(suffix string, v6 bool, spec string) string {
	p.Helper()
	return p.Peer(suffix, fmt.Sprintf("peerAddress: %q, %s", p.of(0, v6), spec))
}

// neighbor waits until a node is a neighbour of the router in the plane and
// satisfies a condition; nil is that the session is up.
func (p *plane) neighbor(node string, v6 bool, ok func(lab.BGPNeighbor) error) lab.BGPNeighbor {
	p.Helper()
	return p.tor.Neighbor(p.node(node, v6), ok)
}

// up waits until the session of each of these nodes is up.
func (p *plane) up(v6 bool, nodes ...string) {
	p.Helper()
	for _, n := range nodes {
		p.neighbor(n, v6, nil)
	}
}

// path waits until a node announces a prefix in the plane in a way that satisfies a
// condition, nil for any.
func (p *plane) path(node string, prefix netip.Prefix, ok func(lab.BGPPath) error) {
	p.Helper()
	p.tor.PathsOf(prefix, func(paths []lab.BGPPath) error {
		i := slices.IndexFunc(paths, func(path lab.BGPPath) bool {
			return path.From == p.node(node, false) || path.From == p.node(node, true)
		})
		switch {
		case i < 0:
			return fmt.Errorf("%s announces none in %s", node, p.group)
		case ok == nil:
			return nil
		}
		return ok(paths[i])
	})
}

// noPath waits until no node announces a prefix in the plane.
func (p *plane) noPath(prefix netip.Prefix) {
	p.Helper()
	p.tor.PathsOf(prefix, func(paths []lab.BGPPath) error {
		for _, path := range paths {
			if subnet(p.of(0, path.From.Is6())).Contains(path.From) {
				return fmt.Errorf("%s announces it", path.From)
			}
		}
		return nil
	})
}

// host is the prefix of one address.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// untouched notes the router's sessions with the nodes' own addresses, which all
// tests share; the check that it returns fails the test if one of them was lost.
func (s *stage) untouched() (check func()) {
	s.Helper()
	look := func() map[string]string {
		list, err := s.tor.Neighbors(s.Ctx)
		s.Must(err)
		seen := map[string]string{}
		for _, n := range list {
			if strings.HasPrefix(n.Host, "node") && n.Addr.IsGlobalUnicast() {
				seen[n.Addr.String()] = fmt.Sprintf("%s, %d times up, %d times lost", n.State, n.Ups, n.Downs)
			}
		}
		if len(seen) != 6 {
			s.Fatalf("%s has the shared sessions %v, want two with each of three nodes", s.tor.Name, seen)
		}
		return seen
	}
	s.sharedUp()
	before := look()
	return func() {
		s.Helper()
		for addr, now := range look() {
			if before[addr] != now {
				s.Errorf("the session with %s is %q, before %q", addr, now, before[addr])
			}
		}
	}
}

// sharedUp waits until the shared sessions are up.
func (s *stage) sharedUp() {
	s.Helper()
	for _, n := range s.Nodes() {
		s.tor.NeighborNode(n, false, nil)
		s.tor.NeighborNode(n, true, nil)
	}
}

// on is a node selector for nodes by their names.
func on(nodes ...string) string {
	return "nodeSelectors: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [" + strings.Join(nodes, ", ") + "]}]}]"
}

// labelled is a selector for a label with the value "yes".
func labelled(key string) string { return "{matchLabels: {" + key + ": \"yes\"}}" }

// because is the condition that a session is not established, for a reason, with
// words in its message.
func because(reason, words string) func(harness.BGPSession) error {
	return func(s harness.BGPSession) error {
		if s.State == "Established" || s.Reason != reason || !strings.Contains(s.Message, words) {
			return fmt.Errorf("it is %s because of %s: %q; want %s with %q", s.State, s.Reason, s.Message, reason, words)
		}
		return nil
	}
}
