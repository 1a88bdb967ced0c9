//go:build lab

package bgp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

// everywhere is what a ServiceBGPStatus says of a Service that all nodes announce
// to some peers.
func (s *stage) everywhere(peers ...string) map[string][]string {
	all := map[string][]string{}
	for _, n := range s.Nodes() {
		all[n] = peers
	}
	return all
}

// The status names every node with every peer; it follows peers that come, go, or
// choose nodes, and advertisements; it goes with the Service; and while nothing
// changes it is not written.
func TestServiceBGPStatus(t *testing.T) {
	t.Parallel()
	s := open(t)
	one, two := s.plane(0, "64500"), s.plane(1, "64500")
	first, second := one.peer("first", false, ebgp), two.peer("second", false, ebgp)
	s.advertiseTo("a", "", first, second, "nobody-made-it")
	s.web("web", harness.V4)
	s.addrs = s.WaitAddresses("web", 1)
	s.WaitBGPStatus("web", s.everywhere(first, second))
	s.routed(s.addrs, "node1", "node1", "node2", "node2", "node3", "node3")

	before, err := s.BGPStatusesOf("web")
	s.Must(err)
	s.Always(2*time.Second, func() error {
		now, err := s.BGPStatusesOf("web")
		if diff := cmp.Diff(before, now); err == nil && diff != "" {
			err = fmt.Errorf("the status changed though nothing else did (-before +now):\n%s", diff)
		}
		return err
	})

	two.peer("second", false, ebgp+", "+on("node1"))
	want := s.everywhere(first)
	want["node1"] = []string{first, second}
	s.WaitBGPStatus("web", want)
	s.Delete(harness.BGPPeers, second)
	s.WaitBGPStatus("web", s.everywhere(first))
	s.advertiseTo("a", on("node3"), first)
	s.WaitBGPStatus("web", map[string][]string{"node3": {first}})
	s.routed(s.addrs, "node3")
	s.DeleteService("web")
	s.WaitBGPStatus("web", nil)
}

// Metrics have MetalLB's names and tell of each session; they forget it with the
// peer.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s := open(t)
	p := s.plane(0, "64500", "bfd")
	profile := s.BFDProfile("default", "")
	peer := p.peer("v4", false, ebgp+", bfdProfile: "+profile+", "+on("node1"))
	s.advertiseTo("a", "", peer)
	s.web("web", harness.V4)
	s.web("other", harness.V4)
	s.WaitAddress("web")
	s.WaitAddress("other")
	router := p.of(0, false)
	is := func(node string, want map[string]float64) {
		t.Helper()
		s.Eventually(harness.Patience, func() error {
			m, err := s.SpeakerMetrics(node)
			if err != nil {
				return err
			}
			got := map[string]float64{}
			for name := range want {
				label := router.String()
				if strings.HasPrefix(name, "metallb_bgp_") {
					label = netip.AddrPortFrom(router, 179).String()
				}
				if got[name], err = m.Value(name, "peer", label); err != nil {
					return err
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				return fmt.Errorf("metrics of %s (-want +got):\n%s", node, diff)
			}
			return nil
		})
	}
	is("node1", map[string]float64{
		"metallb_bgp_session_up": 1, "metallb_bgp_announced_prefixes_total": 2, "metallb_bgp_pending_prefixes_total": 0,
		"metallb_bfd_session_up": 1, "metallb_bfd_session_up_events": 1,
	})
	s.Eventually(harness.Patience, func() error {
		m, err := s.SpeakerMetrics("node1")
		if err != nil {
			return err
		}
		for _, name := range []string{"metallb_bgp_updates_total", "metallb_bgp_keepalives_sent", "metallb_bgp_opens_received"} {
			if v, err := m.Value(name, "peer", netip.AddrPortFrom(router, 179).String()); err != nil || v < 1 {
				return fmt.Errorf("%s is %v (%v), want at least 1", name, v, err)
			}
		}
		for _, name := range []string{"metallb_bfd_control_packet_input", "metallb_bfd_control_packet_output"} {
			if v, err := m.Value(name, "peer", router.String()); err != nil || v < 3 {
				return fmt.Errorf("%s is %v (%v), want some", name, v, err)
			}
		}
		v, err := m.Value("metallb_speaker_announced", "service", s.Namespace+"/web", "protocol", "bgp", "node", "node1")
		if err == nil && v != 1 {
			err = fmt.Errorf("metallb_speaker_announced is %v, want 1", v)
		}
		return err
	})
	s.DeleteService("other")
	is("node1", map[string]float64{"metallb_bgp_announced_prefixes_total": 1})
	p.router("shutdown")
	is("node1", map[string]float64{"metallb_bgp_session_up": 0})
	s.Delete(harness.BGPPeers, peer)
	s.Eventually(harness.Patience, func() error {
		m, err := s.SpeakerMetrics("node1")
		if err != nil {
			return err
		}
		for _, x := range m {
			if strings.HasPrefix(x.Labels["peer"], router.String()) {
				return fmt.Errorf("the peer is deleted, but there is %+v", x)
			}
		}
		return nil
	})
}

// Routers send routes; nodes refuse them all, and say how many there were.
func TestInboundRoutesNeverReachNodes(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.sharedUp()
	for peer, prefix := range map[string]string{shared4: "192.168.201.0/24", shared6: "fd00:201::/64"} {
		for _, n := range s.Nodes() {
			s.WaitSession(peer, n, func(st harness.BGPSession) error {
				if st.State != "Established" || st.ReceivedPrefixes == 0 {
					return fmt.Errorf("it is %s and has received %d prefixes, want some", st.State, st.ReceivedPrefixes)
				}
				return nil
			})
			hops, err := s.Cluster.Routes(s.Ctx, n, netip.MustParsePrefix(prefix))
			s.Must(err)
			if len(hops) > 0 {
				t.Errorf("%s has a route to %s, which the router announces: %v", n, prefix, hops)
			}
			text, err := s.Exec(s.Ctx, n, "ip", "route", "show", "proto", "bgp")
			s.Must(err)
			if text != "" {
				t.Errorf("%s has routes by BGP: %s", n, text)
			}
			listening, err := s.Exec(s.Ctx, n, "ss", "-Hltn", "sport = :179")
			s.Must(err)
			if listening != "" {
				t.Errorf("%s listens for BGP though no peer dials: %s", n, listening)
			}
		}
	}
}
