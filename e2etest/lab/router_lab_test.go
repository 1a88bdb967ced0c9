//go:build lab

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heraldlb/herald/e2etest/lab/nsnet"
)

// The addresses that nodes announce in these tests.
var (
	vip4 = netip.MustParsePrefix("198.51.100.10/32")
	vip6 = netip.MustParsePrefix("2001:db8::10/128")
)

// externalWeb is a pod on each node behind two external addresses: a node answers
// for them with its own pod.
const externalWeb = web + `
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec:
  ipFamilyPolicy: PreferDualStack
  type: NodePort
  externalTrafficPolicy: Local
  selector: {app: web}
  externalIPs: [198.51.100.10, "2001:db8::10"]
  ports: [{name: http, port: 80, targetPort: 8080}]
`

// speak runs BIRD on a node as somebody that announces both addresses to all
// routers of the topology, until stop, which ends it without a goodbye.
func speak(ctx context.Context, t *testing.T, c *Cluster, node string) (stop func()) {
	t.Helper()
	l := c.State.Layout
	n := must(l.Node(node))(t)
	var text strings.Builder
	fmt.Fprintf(&text, "log stderr all;\nrouter id 10.254.0.%d;\nprotocol device {}\n", slices.IndexFunc(l.Nodes, func(h Host) bool { return h.Name == node })+1)
	text.WriteString("protocol bfd { interface \"*\" { interval 100 ms; multiplier 3; }; multihop { interval 100 ms; multiplier 3; }; }\n")
	fmt.Fprintf(&text, "protocol static v4 { ipv4; route %s blackhole; }\nprotocol static v6 { ipv6; route %s blackhole; }\n", vip4, vip6)
	for i, peer := range must(l.Peers(node))(t) {
		family := map[bool]string{false: "ipv4", true: "ipv6"}[peer.Addr.Is6()]
		hops := "direct"
		if r := must(l.Router(peer.Name))(t); r.facing(n) == nil {
			hops = "multihop"
		}
		fmt.Fprintf(&text, "protocol bgp peer%d { local %s as 64500; neighbor %s as %d; %s; bfd on; password \"%s\"; connect delay time 1; error wait time 1, 2; "+
			"connect retry time 1; %s { import none; export where source = RTS_STATIC; next hop self; }; }\n",
			i, n.Interfaces[0].Addr(peer.Addr.Is6()), peer.Addr, peer.ASN, hops, testPassword, family)
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "bird.conf")
	check(t, os.WriteFile(conf, []byte(text.String()), 0o644))
	running, cancel := context.WithCancel(ctx)
	log := must(os.Create(filepath.Join(dir, "log")))(t)
	done := make(chan error, 1)
	go func() {
		done <- c.ExecTo(running, node, nil, log, log, "/usr/sbin/bird", "-f", "-c", conf, "-s", filepath.Join(dir, "ctl"))
	}()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			<-done
		}
	}
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("BIRD on %s:\n%s", node, text)
		}
		log.Close()
	})
	return stop
}

// testPassword is that of all sessions in these tests.
const testPassword = "s3cret"

// upRouted makes a lab with routers and pods behind the two addresses, and has
// all nodes announce them.
func upRouted(t *testing.T, o Options) (context.Context, *Cluster, map[string]func()) {
	t.Helper()
	o.Images, o.BGP.Password = echoImage(t), testPassword
	ctx, c := upLab(t, o)
	text := externalWeb
	switch c.State.Options.Families {
	case IPv6Only:
		text = strings.Replace(text, "198.51.100.10, ", "", 1)
	case IPv4Only:
		text = strings.Replace(text, `, "2001:db8::10"`, "", 1)
	}
	check(t, c.Apply(ctx, text))
	must(c.Kubectl(ctx, "rollout", "status", "deployment/web", "--timeout=60s"))(t)
	stops := map[string]func(){}
	for _, n := range c.State.Layout.Nodes {
		stops[n.Name] = speak(ctx, t, c, n.Name)
	}
	return ctx, c, stops
}

// routed waits until a router's next hops for a prefix are those hosts.
func routed(ctx context.Context, t *testing.T, c *Cluster, router string, prefix netip.Prefix, hosts ...string) {
	t.Helper()
	r := must(c.Router(router))(t)
	eventually(ctx, t, 30*time.Second, fmt.Sprintf("%s routes %s over %v", router, prefix, hosts), func() error {
		hops, err := r.Routes(ctx, prefix)
		var got []string
		for _, h := range hops {
			got = append(got, h.Host)
		}
		slices.Sort(got)
		if err == nil && !slices.Equal(got, hosts) {
			err = fmt.Errorf("it does over %v", hops)
		}
		return err
	})
}

// spread checks that all pods answer a client's connections.
func spread(ctx context.Context, t *testing.T, c *Cluster, vips ...netip.Prefix) {
	t.Helper()
	for _, vip := range vips {
		f := must(c.Flows(ctx, "client1", netip.AddrPortFrom(vip.Addr(), 80), 200))(t)
		t.Logf("%s: %v, %d failed", vip, f.ByPod, f.Failed)
		if f.Failed > 0 || len(f.ByPod) != 3 {
			t.Errorf("%s: answers by pod %v, %d failed (%v); want all of three pods and no failure", vip, f.ByPod, f.Failed, f.Err)
		}
	}
}

// One rack, and everything that can be done with its router, as a story.
func TestToR(t *testing.T) {
	ctx, c, stop := upRouted(t, Options{Name: "routers", Topology: ToR})
	tor := must(c.Router("tor1"))(t)
	nodes := []string{"node1", "node2", "node3"}
	all := func() {
		t.Helper()
		routed(ctx, t, c, "tor1", vip4, nodes...)
		routed(ctx, t, c, "tor1", vip6, nodes...)
	}
	all()
	spread(ctx, t, c, vip4, vip6)

	t.Run("the router says who its neighbours are", func(t *testing.T) {
		neighbors := must(tor.Neighbors(ctx))(t)
		if len(neighbors) != 6 {
			t.Errorf("neighbours %v, want three nodes over two families", neighbors)
		}
		for _, n := range neighbors {
			if !n.Up() || n.RemoteASN != 64500 || n.LocalASN != 64601 || !slices.Contains(nodes, n.Host) || n.Ups != 1 || n.Received["ipv4"]+n.Received["ipv6"] != 1 {
				t.Errorf("neighbour %+v", n)
			}
		}
		eventually(ctx, t, 20*time.Second, "BFD", func() error {
			for _, p := range must(tor.BFDPeers(ctx))(t) {
				if p.Status != "up" || p.Transmit != 300*time.Millisecond || p.RemoteTransmit != 100*time.Millisecond {
					return fmt.Errorf("%+v", p)
				}
			}
			return nil
		})
		paths := must(tor.Paths(ctx, vip4))(t)
		if len(paths) != 3 || paths[0].Host != "node1" || paths[0].ASPath != "64500" || !paths[0].Multipath {
			t.Errorf("paths %+v", paths)
		}
		if paths := must(tor.Paths(ctx, netip.MustParsePrefix("203.0.113.0/24")))(t); len(paths) != 0 {
			t.Errorf("paths of a prefix that nobody announces: %+v", paths)
		}
	})

	t.Run("a user types vtysh, and sees this router", func(t *testing.T) {
		if out := must(c.Exec(ctx, "tor1", "vtysh", "-c", "show ip bgp"))(t); !strings.Contains(out, "local AS 64601") {
			t.Error(out)
		}
		if out := must(c.Exec(ctx, "tor1", "sh", "-c", "vtysh -c 'show running-config'"))(t); !strings.Contains(out, "neighbor nodes bfd") {
			t.Error(out)
		}
	})

	t.Run("a new configuration changes what differs and no session", func(t *testing.T) {
		text := must(tor.Config())(t)
		check(t, tor.Configure(ctx, strings.ReplaceAll(text, "maximum-paths 32", "maximum-paths 1")))
		eventually(ctx, t, 10*time.Second, "one way", func() error {
			if hops := must(tor.Routes(ctx, vip4))(t); len(hops) != 1 {
				return fmt.Errorf("%v", hops)
			}
			return nil
		})
		check(t, tor.Configure(ctx, text))
		all()
		for _, n := range must(tor.Neighbors(ctx))(t) {
			if n.Downs != 0 {
				t.Errorf("the session with %s was lost: %s", n.Addr, n.LastReset)
			}
		}
		if err := tor.Configure(ctx, "router bgp nonsense\n"); err == nil || !strings.Contains(err.Error(), "configure tor1") {
			t.Errorf("nonsense as a configuration: %v", err)
		}
		check(t, tor.Configure(ctx, text))
	})

	t.Run("a daemon that is killed comes back with its configuration", func(t *testing.T) {
		check(t, tor.Kill(ctx, "bgpd"))
		all()
		check(t, tor.Stop(ctx, "bgpd"))
		routed(ctx, t, c, "tor1", vip4)
		check(t, tor.Start(ctx, "bgpd"))
		all()
	})

	story := t // what speaks again does so for the rest of the story
	t.Run("a cable, a process, a node: the others carry on", func(t *testing.T) {
		bfdUp(ctx, t, tor)
		check(t, c.LinkDown(ctx, "node1", "eth0"))
		routed(ctx, t, c, "tor1", vip4, "node2", "node3")
		check(t, c.LinkUp(ctx, "node1", "eth0"))
		all()
		stop["node2"]()
		routed(ctx, t, c, "tor1", vip6, "node1", "node3")
		speak(ctx, story, c, "node2")
		all()
		bfdUp(ctx, t, tor)
		start := time.Now()
		check(t, c.PowerOff(ctx, "node3"))
		routed(ctx, t, c, "tor1", vip4, "node1", "node2")
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("the route over a node without power went after %s; BFD should see that in a second", took)
		} else {
			t.Logf("the route over a node without power went within %s of the request", took)
		}
	})

	t.Run("a router loses its power and boots", func(t *testing.T) {
		check(t, tor.PowerOff(ctx))
		if reachable(ctx, c, "client1", "192.168.200.11") == nil {
			t.Error("a router without power forwards")
		}
		check(t, tor.PowerOn(ctx))
		routed(ctx, t, c, "tor1", vip4, "node1", "node2")
		if err := reachable(ctx, c, "client1", "192.168.200.11"); err != nil {
			t.Error(err)
		}
	})

	t.Run("the status shows it, and names what is asked wrongly", func(t *testing.T) {
		out := must(c.Fault(ctx, "status"))(t)
		if !strings.Contains(out, "tor1     herald-routers-tor1      frr AS64601 on") {
			t.Error(out)
		}
		for _, tc := range []struct{ got, want error }{
			{got: second(tor.Birdc(ctx, "show route")), want: errors.New("runs frr, which has no birdc")},
			{got: second(c.Router("tor9")), want: errors.New(`no router "tor9"`)},
			{got: tor.Stop(ctx, "ospfd"), want: errors.New(`no program "ospfd" on tor1, want one of [zebra bfdd bgpd]`)},
		} {
			if tc.got == nil || !strings.Contains(tc.got.Error(), tc.want.Error()) {
				t.Errorf("got error %v, want %v", tc.got, tc.want)
			}
		}
	})
}

func second[T any](_ T, err error) error { return err }

// bfdUp waits until a router has BFD up with all its neighbours.
func bfdUp(ctx context.Context, t *testing.T, r *RunningRouter) {
	t.Helper()
	eventually(ctx, t, 20*time.Second, "BFD of "+r.Name, func() error {
		peers, neighbors := must(r.BFDPeers(ctx))(t), must(r.Neighbors(ctx))(t)
		if len(peers) != len(neighbors) {
			return fmt.Errorf("BFD with %d of %d neighbours", len(peers), len(neighbors))
		}
		for _, p := range peers {
			if p.Status != "up" {
				return fmt.Errorf("%s is %s", p.Addr, p.Status)
			}
		}
		return nil
	})
}

// Two racks: the nodes are one cluster across them, and the spine spreads flows
// over the racks.
func TestRacks(t *testing.T) {
	ctx, c, stop := upRouted(t, Options{Name: "routers", Topology: Racks})
	for _, vip := range []netip.Prefix{vip4, vip6} {
		routed(ctx, t, c, "tor1", vip, "node1", "node2")
		routed(ctx, t, c, "tor2", vip, "node3")
		routed(ctx, t, c, "spine", vip, "tor1", "tor2")
	}
	spread(ctx, t, c, vip4, vip6)

	t.Run("pods reach pods in the other rack", func(t *testing.T) {
		f := must(c.Flows(ctx, "node3", netip.MustParseAddrPort("192.168.200.11:30080"), 30))(t)
		if len(f.ByPod) != 3 || f.Failed > 0 {
			t.Errorf("through a node of the other rack: %+v", f)
		}
	})
	t.Run("a user types birdc, and sees the spine", func(t *testing.T) {
		if out := must(c.Exec(ctx, "spine", "birdc", "show", "route"))(t); !strings.Contains(out, "198.51.100.10/32") {
			t.Error(out)
		}
	})
	t.Run("the spine says who its neighbours are", func(t *testing.T) {
		spine := must(c.Router("spine"))(t)
		bfdUp(ctx, t, spine)
		neighbors := must(spine.Neighbors(ctx))(t)
		if len(neighbors) != 4 {
			t.Errorf("neighbours %+v, want two routers over two families", neighbors)
		}
		for _, n := range neighbors {
			if !n.Up() || n.LocalASN != 64700 || !strings.HasPrefix(n.Host, "tor") || n.Received["ipv4"]+n.Received["ipv6"] == 0 {
				t.Errorf("neighbour %+v", n)
			}
		}
	})
	t.Run("the spine takes a new configuration", func(t *testing.T) {
		spine := must(c.Router("spine"))(t)
		text := must(spine.Config())(t)
		check(t, spine.Configure(ctx, strings.Replace(text, "merge paths on limit 32;", "merge paths off;", 1)))
		eventually(ctx, t, 10*time.Second, "one way", func() error {
			if hops := must(spine.Routes(ctx, vip4))(t); len(hops) != 1 {
				return fmt.Errorf("%v", hops)
			}
			return nil
		})
		if err := spine.Configure(ctx, "nonsense"); err == nil || !strings.Contains(err.Error(), "syntax error") {
			t.Errorf("nonsense as a configuration: %v", err)
		}
		check(t, spine.Configure(ctx, text))
		routed(ctx, t, c, "spine", vip4, "tor1", "tor2")
	})
	story := t
	t.Run("a rack without announcers, and a rack without power", func(t *testing.T) {
		stop["node3"]()
		routed(ctx, t, c, "spine", vip4, "tor1")
		speak(ctx, story, c, "node3")
		routed(ctx, t, c, "spine", vip4, "tor1", "tor2")
		check(t, must(c.Router("tor1"))(t).PowerOff(ctx))
		routed(ctx, t, c, "spine", vip4, "tor2")
		check(t, must(c.Router("tor1"))(t).PowerOn(ctx))
		routed(ctx, t, c, "spine", vip4, "tor1", "tor2")
	})
}

// A reflector two hops away, and the router between that learns from it.
func TestMultihop(t *testing.T) {
	ctx, c, _ := upRouted(t, Options{Name: "routers", Topology: Multihop})
	nodes := []string{"node1", "node2", "node3"}
	for _, vip := range []netip.Prefix{vip4, vip6} {
		routed(ctx, t, c, "hop", vip, nodes...)
	}
	core := must(c.Router("core"))(t)
	for _, n := range must(core.Neighbors(ctx))(t) {
		if !n.Up() || n.RemoteASN != n.LocalASN {
			t.Errorf("neighbour %+v", n)
		}
	}
	bfdUp(ctx, t, core)
	if peers := must(core.BFDPeers(ctx))(t); !slices.ContainsFunc(peers, func(p BFDPeer) bool { return p.Multihop && p.Host == "node1" }) {
		t.Errorf("BFD peers %+v, want node1 over several hops", peers)
	}
	spread(ctx, t, c, vip4, vip6)
}

// A router that knows only IPv6: nodes with IPv6 alone, and nodes with both.
func TestV6Only(t *testing.T) {
	for _, families := range []Families{IPv6Only, DualStack} {
		t.Run(string(families), func(t *testing.T) {
			ctx, c, _ := upRouted(t, Options{Name: "routers", Topology: V6Only, Families: families})
			routed(ctx, t, c, "tor1", vip6, "node1", "node2", "node3")
			spread(ctx, t, c, vip6)
			for _, n := range must(must(c.Router("tor1"))(t).Neighbors(ctx))(t) {
				if !n.Up() || n.Addr.Is4() {
					t.Errorf("neighbour %+v", n)
				}
			}
		})
	}
}

// A ToR that is BIRD instead of FRR, in the nodes' own autonomous system.
func TestToRIsBIRD(t *testing.T) {
	ctx, c, _ := upRouted(t, Options{Name: "routers", Topology: ToR, BGP: BGPOptions{
		Routers: map[string]RouterOptions{"tor1": {Kind: BIRD, ASN: DefaultNodeASN}},
	}})
	for _, vip := range []netip.Prefix{vip4, vip6} {
		routed(ctx, t, c, "tor1", vip, "node1", "node2", "node3")
	}
	bfdUp(ctx, t, must(c.Router("tor1"))(t))
	spread(ctx, t, c, vip4, vip6)
}

// No daemon of a router outlives the lab, whoever killed the lab.
func TestRoutersDieWithTheLab(t *testing.T) {
	ctx, c := upLab(t, Options{Name: "routers", Topology: Racks, Nodes: 2})
	names := func() (programs []string) {
		for _, p := range must(nsnet.Processes(c.State.Layout.Namespaces()))(t) {
			programs = append(programs, p.Program)
		}
		return programs
	}
	for _, daemon := range []string{"zebra", "bgpd", "bfdd", "bird"} {
		if got := names(); !slices.Contains(got, daemon) {
			t.Fatalf("the lab runs %v, want %s among them", got, daemon)
		}
	}
	check(t, syscall.Kill(c.State.Supervisor, syscall.SIGKILL))
	<-c.ended
	eventually(ctx, t, 10*time.Second, "the end of all daemons", func() error {
		for _, p := range names() {
			if slices.Contains([]string{"zebra", "bgpd", "bfdd", "bird"}, p) {
				return fmt.Errorf("%s still runs", p)
			}
		}
		return nil
	})
}
