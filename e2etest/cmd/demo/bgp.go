package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/heraldlb/herald/e2etest/herald"
	"github.com/heraldlb/herald/e2etest/lab"
)

// bgp is the part behind a router.
var bgp = part{
	name:  "bgp",
	place: "3 nodes in a rack, an FRR router on top of it, a client on its other side",
	lab:   lab.Options{Topology: lab.ToR},
	acts: []act{
		{"The router: sessions with every node, over IPv4 and IPv6, watched by BFD", sessions},
		{"kubectl expose: the route in the router's own words", route},
		{"Many connections reach every node", ecmp},
		{"A Service with policy Local is advertised where its pods are, weighed by their number", weights},
		{"A node loses power: BFD tells the router", routerPowerLoss},
		{"A wrong password says so, and harms nobody else", wrongPassword},
		{"Everything is deleted again: no route, no session", bgpCleanUp},
	},
}

// router is the one on top of the rack.
const router = "tor1"

// vip is an address of a Service, as a route.
type vip = netip.Prefix

// The addresses that the Services of this part ask for.
var (
	webVIPs  = []vip{netip.MustParsePrefix("203.0.113.10/32"), netip.MustParsePrefix("2001:db8:113::10/128")}
	shopVIPs = []vip{netip.MustParsePrefix("203.0.113.20/32"), netip.MustParsePrefix("2001:db8:113::20/128")}
)

func sessions(ctx context.Context, s *stage) error {
	// The router lets nodes connect from their subnet, with BFD: lab.RouterText.
	if _, err := s.on(ctx, router, "vtysh", "-c", "show running-config bgpd"); err != nil {
		return err
	}
	if err := s.apply(ctx, `apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: routed, namespace: metallb-system}
spec:
  addresses: [203.0.113.0/24, "2001:db8:113::/120"]
---
apiVersion: metallb.io/v1beta1
kind: BFDProfile
metadata: {name: default, namespace: metallb-system}
spec: {transmitInterval: 300, receiveInterval: 300, detectMultiplier: 3}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor1, namespace: metallb-system}
spec: {myASN: 64500, peerASN: 64601, peerAddress: 192.168.200.1, bfdProfile: default}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor1-v6, namespace: metallb-system}
spec: {myASN: 64500, peerASN: 64601, peerAddress: "fd00:200::1", bfdProfile: default}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: routed, namespace: metallb-system}
spec: {weightByEndpoints: true}
`); err != nil {
		return err
	}
	if err := s.allUp(ctx); err != nil {
		return err
	}
	if _, err := s.kubectl(ctx, "-n", herald.Namespace, "get", "bgpsessionstatuses"); err != nil {
		return err
	}
	if _, err := s.on(ctx, router, "vtysh", "-c", "show bgp ipv4 summary"); err != nil {
		return err
	}
	_, err := s.on(ctx, router, "vtysh", "-c", "show bfd peers brief")
	return err
}

// session is what the demo reads of a BGPSessionStatus.
type session struct {
	Status struct {
		Node, Peer, State, Reason, Message string
		BFD                                *struct{ State string }
	}
}

func (s *stage) sessionStatuses(ctx context.Context) ([]session, error) {
	text, err := s.Kubectl(ctx, "-n", herald.Namespace, "get", "bgpsessionstatuses", "-o", "json")
	if err != nil {
		return nil, err
	}
	var list struct{ Items []session }
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, fmt.Errorf("read the BGPSessionStatuses: %w", err)
	}
	return list.Items, nil
}

// allUp waits until both sides say of every session that it is established and
// that BFD is up.
func (s *stage) allUp(ctx context.Context) error {
	tor, err := s.Router(router)
	if err != nil {
		return err
	}
	want := 2 * len(s.State.Layout.Nodes) // IPv4 and IPv6
	return until(ctx, 30*time.Second, func(ctx context.Context) error {
		neighbors, err := tor.Neighbors(ctx)
		if err != nil {
			return err
		}
		up := 0
		for _, n := range neighbors {
			if n.Up() && n.BFD == "Up" {
				up++
			}
		}
		if up != want {
			return fmt.Errorf("%s has %d of %d sessions up, BFD included", router, up, want)
		}
		statuses, err := s.sessionStatuses(ctx)
		if err != nil {
			return err
		}
		if len(statuses) != want {
			return fmt.Errorf("%d BGPSessionStatuses, want %d", len(statuses), want)
		}
		for _, o := range statuses {
			if o.Status.State != "Established" || o.Status.BFD == nil || o.Status.BFD.State != "Up" {
				return fmt.Errorf("%s says of its session with %s: %s %s, want Established and BFD Up", o.Status.Node, o.Status.Peer, o.Status.State, o.Status.Reason)
			}
		}
		return nil
	})
}

func route(ctx context.Context, s *stage) error {
	if _, err := s.kubectl(ctx, "create", "deployment", "web", "--image="+lab.EchoImage, "--replicas=3"); err != nil {
		return err
	}
	if _, err := s.Kubectl(ctx, "rollout", "status", "deployment/web", "--timeout=30s"); err != nil {
		return err
	}
	started := time.Now()
	if err := s.expose(ctx, "web", webVIPs, "Cluster"); err != nil {
		return err
	}
	if err := s.routed(ctx, webVIPs, s.allNodes()); err != nil {
		return err
	}
	took := time.Since(started).Milliseconds()
	s.figure("bgp_route_ms", took)
	for _, argv := range [][]string{
		{"vtysh", "-c", "show ip bgp " + webVIPs[0].String()},
		{"vtysh", "-c", "show bgp ipv6 " + webVIPs[1].String()},
		{"ip", "route", "show", webVIPs[0].Addr().String()},
		{"ip", "-6", "route", "show", webVIPs[1].Addr().String()},
	} {
		if _, err := s.on(ctx, router, argv...); err != nil {
			return err
		}
	}
	s.say("→ %d ms after kubectl expose was typed, the router's kernel sent to all nodes", took)
	return nil
}

// expose makes a Service with both families that asks for its addresses.
func (s *stage) expose(ctx context.Context, name string, vips []vip, policy string) error {
	if _, err := s.kubectl(ctx, "expose", "deployment", name, "--type=LoadBalancer", "--port=80", "--target-port=8080",
		`--overrides={"metadata":{"annotations":{"metallb.io/loadBalancerIPs":"`+vips[0].Addr().String()+","+vips[1].Addr().String()+
			`"}},"spec":{"ipFamilyPolicy":"RequireDualStack","externalTrafficPolicy":"`+policy+`"}}`); err != nil {
		return err
	}
	return nil
}

// allNodes is what a route via every node has as weights: all the same.
func (s *stage) allNodes() map[string]int {
	nodes := map[string]int{}
	for _, n := range s.State.Layout.Nodes {
		nodes[n.Name] = 1
	}
	return nodes
}

// routed waits until the router's kernel has each route, via these nodes, and
// with weights in proportion to these numbers.
func (s *stage) routed(ctx context.Context, vips []vip, shares map[string]int) error {
	return until(ctx, 20*time.Second, func(ctx context.Context) error {
		for _, v := range vips {
			if err := s.routedNow(ctx, v, shares); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *stage) routedNow(ctx context.Context, v vip, shares map[string]int) error {
	hops, err := s.Routes(ctx, router, v)
	if err != nil {
		return err
	}
	if !proportional(hops, shares) {
		var has []string
		for _, h := range hops {
			has = append(has, fmt.Sprintf("%s weight %d", h.Host, h.Weight))
		}
		return fmt.Errorf("%s sends %s to [%s], want weights in proportion to %v", router, v, strings.Join(has, ", "), shares)
	}
	return nil
}

// proportional reports whether next hops are these nodes and no others, with
// weights in proportion to these numbers. FRR writes weights as whole percents.
func proportional(hops []lab.NextHop, shares map[string]int) bool {
	whole, weights := 0, 0
	seen := map[string]bool{}
	for _, h := range hops {
		whole, weights = whole+shares[h.Host], weights+h.Weight
		seen[h.Host] = shares[h.Host] > 0
	}
	if len(hops) != len(shares) || len(seen) != len(shares) {
		return false
	}
	for _, h := range hops {
		diff := 100*h.Weight*whole - 100*shares[h.Host]*weights
		if !seen[h.Host] || max(diff, -diff) > 2*whole*weights {
			return false
		}
	}
	return true
}

func bgpCleanUp(ctx context.Context, s *stage) error {
	for _, argv := range [][]string{
		{"delete", "services", "web", "shop"},
		{"delete", "deployments", "web", "shop"},
	} {
		if _, err := s.kubectl(ctx, argv...); err != nil {
			return err
		}
	}
	if err := s.routed(ctx, slices.Concat(webVIPs, shopVIPs), nil); err != nil {
		return err
	}
	if _, err := s.on(ctx, router, "vtysh", "-c", "show ip bgp"); err != nil {
		return err
	}
	if _, err := s.kubectl(ctx, "-n", herald.Namespace, "delete", "bgppeers", "--all"); err != nil {
		return err
	}
	tor, err := s.Router(router)
	if err != nil {
		return err
	}
	if err := until(ctx, 15*time.Second, func(ctx context.Context) error {
		neighbors, err := tor.Neighbors(ctx)
		statuses, err2 := s.sessionStatuses(ctx)
		if err == nil && len(neighbors)+len(statuses) > 0 {
			err = fmt.Errorf("%s has %d neighbours, and there are %d BGPSessionStatuses", router, len(neighbors), len(statuses))
		}
		return errors.Join(err, err2)
	}); err != nil {
		return err
	}
	_, err = s.on(ctx, router, "vtysh", "-c", "show bgp ipv4 summary")
	return err
}
