package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/heraldlb/herald/e2etest/herald"
	"github.com/heraldlb/herald/e2etest/lab/probe"
)

// maxRouteOutage is what the demo accepts on a machine that is busy with a whole
// cluster. Without BFD the router would wait for the hold time, 90 s.
const maxRouteOutage = 2 * time.Second

func routerPowerLoss(ctx context.Context, s *stage) error {
	nodes, err := s.shopNodes(ctx, 4)
	if err != nil {
		return err
	}
	// One of those with one pod; any will do.
	victim := s.State.Layout.Nodes[0].Name
	for name, pods := range nodes {
		if pods == 1 {
			victim = name
		}
	}
	left := map[string]int{}
	for name, pods := range nodes {
		if name != victim {
			left[name] = pods
		}
	}
	if err := s.cutPower(ctx, victim, left); err != nil {
		return err
	}
	if err := s.routed(ctx, shopVIPs, left); err != nil {
		return err
	}
	if _, err := s.on(ctx, router, "ip", "route", "show", shopVIPs[0].Addr().String()); err != nil {
		return err
	}
	if _, err := s.on(ctx, router, "vtysh", "-c", "show bfd peers brief"); err != nil {
		return err
	}
	if _, err := s.connect(ctx, shopVIPs[0].Addr()); err != nil {
		return fmt.Errorf("after the route over %s went: %w", victim, err)
	}
	s.say("→ all of them were answered, by the pods of the others")
	started := time.Now()
	s.say("%s has power again", victim)
	if err := s.PowerOn(ctx, victim); err != nil {
		return err
	}
	if err := s.routed(ctx, shopVIPs, nodes); err != nil {
		return err
	}
	if _, err := s.on(ctx, router, "ip", "route", "show", shopVIPs[0].Addr().String()); err != nil {
		return err
	}
	s.say("→ %s has booted, and its next hop is back, %.1f s after its power", victim, time.Since(started).Seconds())
	return s.allUp(ctx)
}

// cutPower takes a node's power while a client opens connections, and measures
// how long the router still sends to the node.
func (s *stage) cutPower(ctx context.Context, victim string, left map[string]int) error {
	target, err := probe.ParseTarget(shopVIPs[0].Addr().String() + ":80")
	if err != nil {
		return err
	}
	watch, err := s.Probe(ctx, client, probe.Options{Targets: []probe.Target{target}})
	if err != nil {
		return err
	}
	s.say("a client opens a new connection every few milliseconds; now %s loses power", victim)
	started := time.Now()
	cut := make(chan error, 1)
	go func() { cut <- s.PowerOff(ctx, victim) }()
	err = until(ctx, 20*time.Second, func(ctx context.Context) error { return s.routedNow(ctx, shopVIPs[0], left) })
	took := time.Since(started)
	if cutErr := <-cut; cutErr != nil {
		return cutErr
	}
	results, probeErr := watch.Stop()
	if err != nil {
		return err
	}
	if probeErr != nil {
		return probeErr
	}
	result := results[0]
	s.say("→ the router's kernel sent to %s for %s more; of %d connections opened, %d were lost",
		victim, took.Round(time.Millisecond), result.Total, result.Lost)
	switch {
	case took > maxRouteOutage:
		return fmt.Errorf("the router sent to a node without power for %s, want at most %s", took, maxRouteOutage)
	case result.Lost == 0 || 2*result.Lost > result.Total:
		return fmt.Errorf("%d of %d connections were lost, want those to one node of three", result.Lost, result.Total)
	}
	s.figure("bgp_takeover_ms", took.Milliseconds())
	return nil
}

func wrongPassword(ctx context.Context, s *stage) error {
	before, err := s.firstPeer(ctx)
	if err != nil {
		return err
	}
	if _, err := s.kubectl(ctx, "-n", herald.Namespace, "patch", "bgppeer", "tor1-v6", "--type=merge", `--patch={"spec":{"password":"guess"}}`); err != nil {
		return err
	}
	if err := until(ctx, 30*time.Second, func(ctx context.Context) error {
		statuses, err := s.sessionStatuses(ctx)
		if err != nil {
			return err
		}
		for _, o := range statuses {
			told := o.Status.Reason == "PeerSilent" && strings.Contains(o.Status.Message, "password")
			if o.Status.Peer == "tor1-v6" && !told {
				return fmt.Errorf("%s says of its session with tor1-v6: %s %s %q, want PeerSilent and a word on passwords", o.Status.Node, o.Status.State, o.Status.Reason, o.Status.Message)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if _, err := s.kubectl(ctx, "-n", herald.Namespace, "get", "bgpsessionstatuses"); err != nil {
		return err
	}
	if _, err := s.kubectl(ctx, "-n", herald.Namespace, "get", "bgpsessionstatuses", "-l", "heraldlb.io/peer=tor1-v6",
		"-o", `jsonpath={range .items[*]}{.status.node}: {.status.message}{"\n"}{end}`); err != nil {
		return err
	}
	if err := s.routed(ctx, webVIPs[1:], nil); err != nil {
		return err
	}
	after, err := s.firstPeer(ctx)
	if err != nil {
		return err
	}
	if !slices.Equal(before, after) {
		return fmt.Errorf("the sessions with the peer tor1 were %v and are %v, want them untouched", before, after)
	}
	if err := s.routedNow(ctx, webVIPs[0], s.allNodes()); err != nil {
		return err
	}
	s.say("→ IPv6 is gone with its peer; the sessions of the other were not touched, nor were the IPv4 routes")
	if _, err := s.kubectl(ctx, "-n", herald.Namespace, "patch", "bgppeer", "tor1-v6", "--type=merge", `--patch={"spec":{"password":""}}`); err != nil {
		return err
	}
	if err := s.routed(ctx, webVIPs[1:], s.allNodes()); err != nil {
		return err
	}
	s.say("→ without the password the IPv6 route is back, over all nodes")
	return nil
}

// firstPeer is what the router says of its sessions over IPv4: with whom, and how
// many times each came up and went down.
func (s *stage) firstPeer(ctx context.Context) ([]string, error) {
	tor, err := s.Router(router)
	if err != nil {
		return nil, err
	}
	neighbors, err := tor.Neighbors(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, n := range neighbors {
		if n.Addr.Is4() {
			out = append(out, fmt.Sprintf("%s %s, %d times up, %d times down", n.Host, n.State, n.Ups, n.Downs))
		}
	}
	if len(out) != len(s.State.Layout.Nodes) {
		return nil, fmt.Errorf("%s has IPv4 sessions %v, want one with each node", router, out)
	}
	return out, nil
}
