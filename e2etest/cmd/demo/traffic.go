package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/heraldlb/herald/e2etest/lab"
)

// connections is how many the client opens in an act about spreading.
const connections = 300

// countArrivals makes a node count the connections that the router sends it,
// before kube-proxy passes them on, maybe to another node.
var countArrivals = "add table inet arrivals; add counter inet arrivals ipv4; add counter inet arrivals ipv6; " +
	"add chain inet arrivals in { type filter hook prerouting priority raw; }; " +
	"add rule inet arrivals in ip daddr " + webVIPs[0].Addr().String() + " tcp flags & (syn | ack) == syn counter name ipv4; " +
	"add rule inet arrivals in ip6 daddr " + webVIPs[1].Addr().String() + " tcp flags & (syn | ack) == syn counter name ipv6"

func ecmp(ctx context.Context, s *stage) error {
	if err := s.settled(ctx, webVIPs); err != nil {
		return err
	}
	for i, n := range s.State.Layout.Nodes {
		run := s.Exec // the same on all: shown once
		if i == 0 {
			run = s.on
		}
		if _, err := run(ctx, n.Name, "nft", countArrivals); err != nil {
			return err
		}
	}
	for i, family := range []string{"ipv4", "ipv6"} {
		flows, err := s.connect(ctx, webVIPs[i].Addr())
		if err != nil {
			return err
		}
		arrivals, sum := map[string]int{}, 0
		for _, n := range s.State.Layout.Nodes {
			if arrivals[n.Name], err = s.arrivals(ctx, n.Name, family); err != nil {
				return err
			}
			sum += arrivals[n.Name]
		}
		s.say("→ the router sent %s; kube-proxy spread them over the pods: %s", counts(arrivals), counts(flows.ByPod))
		if sum != connections {
			return fmt.Errorf("over %s the nodes counted %d connections in all, want the %d that were opened", family, sum, connections)
		}
		// With three nodes a third each, with a deviation of 8 in 300.
		if err := fair(arrivals, len(s.State.Layout.Nodes)); err != nil {
			return fmt.Errorf("connections by node over %s: %w", family, err)
		}
	}
	return nil
}

// arrivals reads a node's counter.
func (s *stage) arrivals(ctx context.Context, node, counter string) (int, error) {
	text, err := s.on(ctx, node, "nft", "list counter inet arrivals "+counter)
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(text, "packets ")
	var n int
	if _, err := fmt.Sscan(rest, &n); err != nil {
		return 0, fmt.Errorf("read the counter of %s: %w: %q", node, err, text)
	}
	return n, nil
}

// settled waits until the nodes serve the addresses: the route is there some
// hundred milliseconds before kube-proxy has the rules of a new Service.
func (s *stage) settled(ctx context.Context, vips []vip) error {
	return until(ctx, 30*time.Second, func(ctx context.Context) error {
		for _, v := range vips {
			flows, err := s.Flows(ctx, client, netip.AddrPortFrom(v.Addr(), 80), 20)
			if err == nil && flows.Failed > 0 {
				err = fmt.Errorf("%d of 20 connections to %s fail: %w", flows.Failed, v.Addr(), flows.Err)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// connect opens many connections from the client, each of which must be answered.
func (s *stage) connect(ctx context.Context, to netip.Addr) (lab.Flows, error) {
	fmt.Fprintf(s.out, "%s$ curl %s     (%d times)\n", client, url(to.String()), connections)
	flows, err := s.Flows(ctx, client, netip.AddrPortFrom(to, 80), connections)
	if err == nil && flows.Failed > 0 {
		err = fmt.Errorf("%d of %d connections to %s failed: %w", flows.Failed, connections, to, flows.Err)
	}
	return flows, err
}

// fair checks that all have a part, and that none has less than half of a fair one.
func fair(parts map[string]int, want int) error {
	sum := 0
	for _, n := range parts {
		sum += n
	}
	for name, n := range parts {
		if 2*n*want < sum {
			return fmt.Errorf("%s got %d of %d, less than half of its part: %s", name, n, sum, counts(parts))
		}
	}
	if len(parts) != want {
		return fmt.Errorf("%d got some, want %d: %s", len(parts), want, counts(parts))
	}
	return nil
}

// counts writes numbers by name, sorted.
func counts(m map[string]int) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		words = append(words, fmt.Sprintf("%d to %s", m[name], name))
	}
	return strings.Join(words, ", ")
}

func weights(ctx context.Context, s *stage) error {
	if _, err := s.kubectl(ctx, "create", "deployment", "shop", "--image="+lab.EchoImage); err != nil {
		return err
	}
	if err := s.expose(ctx, "shop", shopVIPs, "Local"); err != nil {
		return err
	}
	before := 0 // nodes
	for _, replicas := range []int{1, 2, 4} {
		if replicas > 1 {
			if _, err := s.kubectl(ctx, "scale", "deployment/shop", fmt.Sprintf("--replicas=%d", replicas)); err != nil {
				return err
			}
		}
		nodes, err := s.shopNodes(ctx, replicas)
		if err != nil {
			return err
		}
		if err := s.routed(ctx, shopVIPs, nodes); err != nil {
			return err
		}
		if _, err := s.on(ctx, router, "ip", "route", "show", shopVIPs[0].Addr().String()); err != nil {
			return err
		}
		s.say("→ pods: %s", strings.ReplaceAll(counts(nodes), " to ", " on "))
		if len(nodes) <= before && len(nodes) < len(s.State.Layout.Nodes) {
			return fmt.Errorf("%d pods are on %d nodes, want more nodes than before", replicas, len(nodes))
		}
		before = len(nodes)
	}
	if _, err := s.on(ctx, router, "vtysh", "-c", "show ip bgp "+shopVIPs[0].String()); err != nil {
		return err
	}
	if err := s.settled(ctx, shopVIPs); err != nil {
		return err
	}
	flows, err := s.connect(ctx, shopVIPs[0].Addr())
	if err != nil {
		return err
	}
	s.say("→ %s", counts(flows.ByPod))
	if err := fair(flows.ByPod, 4); err != nil {
		return fmt.Errorf("connections by pod: %w", err)
	}
	return nil
}

// shopNodes waits until so many pods of shop are ready and counts them by node.
func (s *stage) shopNodes(ctx context.Context, replicas int) (map[string]int, error) {
	if _, err := s.Kubectl(ctx, "rollout", "status", "deployment/shop", "--timeout=30s"); err != nil {
		return nil, err
	}
	var nodes map[string]int
	err := until(ctx, 20*time.Second, func(ctx context.Context) error {
		text, err := s.Kubectl(ctx, "get", "pods", "-l", "app=shop", "-o", `jsonpath={range .items[*]}{.spec.nodeName}{"\n"}{end}`)
		if err != nil {
			return err
		}
		nodes = map[string]int{}
		all := strings.Fields(text)
		for _, node := range all {
			nodes[node]++
		}
		if len(all) != replicas {
			return fmt.Errorf("shop has %d pods on nodes, want %d", len(all), replicas)
		}
		return nil
	})
	return nodes, err
}
