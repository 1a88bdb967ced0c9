//go:build lab

package bgp

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/lab"
)

// bfdProfile gives the router a BFD profile until the test ends. The lines are its
// parameters, in FRR's words.
func (s *stage) bfdProfile(name string, lines ...string) {
	s.Helper()
	s.OnEnd("remove the router's BFD profile", func(ctx context.Context) error {
		_, err := s.tor.Vtysh(ctx, "configure terminal", "bfd", "no profile "+name)
		return err
	})
	_, err := s.tor.Vtysh(s.Ctx, append([]string{"configure terminal", "bfd", "profile " + name}, lines...)...)
	s.Must(err)
}

// Whatever a profile says, the session comes up in both families, and each side
// knows the other's parameters.
func TestBFDParameters(t *testing.T) {
	for _, tt := range []struct {
		name, profile string
		router        []string
		want          lab.BFDPeer // what the router says of us, and of itself
		// transmit and detect are what both have agreed on, as we see it, in
		// milliseconds.
		transmit, detect int64
	}{
		{"Default", "", nil,
			lab.BFDPeer{RemoteReceive: 300 * ms, RemoteTransmit: 300 * ms, RemoteMultiplier: 3, Receive: 300 * ms, Transmit: 300 * ms, Multiplier: 3}, 300, 900},
		{"EveryParameter", "receiveInterval: 180, transmitInterval: 250, detectMultiplier: 7, passiveMode: true, minimumTtl: 200",
			[]string{"transmit-interval 200", "receive-interval 350", "detect-multiplier 5"},
			lab.BFDPeer{RemoteReceive: 180 * ms, RemoteTransmit: 250 * ms, RemoteMultiplier: 7, Receive: 350 * ms, Transmit: 200 * ms, Multiplier: 5}, 350, 1000},
		// With patience: the machine may be busy with a whole cluster.
		{"Fast", "receiveInterval: 50, transmitInterval: 50, detectMultiplier: 30",
			[]string{"transmit-interval 100", "receive-interval 100", "detect-multiplier 20"},
			lab.BFDPeer{RemoteReceive: 50 * ms, RemoteTransmit: 50 * ms, RemoteMultiplier: 30, Receive: 100 * ms, Transmit: 100 * ms, Multiplier: 20}, 100, 2000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			p := s.plane(0, "64500", "bfd")
			if tt.router != nil {
				s.bfdProfile(p.group, tt.router...)
				p.router("bfd profile " + p.group)
			}
			profile := s.BFDProfile("b", tt.profile)
			nodes := []string{"node1", "node2"}
			peers := map[bool]string{}
			for v6, suffix := range map[bool]string{false: "v4", true: "v6"} {
				peers[v6] = p.peer(suffix, v6, ebgp+", bfdProfile: "+profile+", "+on(nodes...))
			}
			for v6, peer := range peers {
				for _, n := range nodes {
					s.tor.BFDWith(p.node(n, v6), func(b lab.BFDPeer) error {
						got := lab.BFDPeer{RemoteReceive: b.RemoteReceive, RemoteTransmit: b.RemoteTransmit, RemoteMultiplier: b.RemoteMultiplier,
							Receive: b.Receive, Transmit: b.Transmit, Multiplier: b.Multiplier}
						if b.Status != "up" || got != tt.want {
							return fmt.Errorf("it is %s with %+v, want %+v", b.Status, got, tt.want)
						}
						return nil
					})
					s.WaitSession(peer, n, func(st harness.BGPSession) error {
						if st.State != "Established" || st.BFD == nil || st.BFD.State != "Up" ||
							st.BFD.TransmitIntervalMilliseconds != tt.transmit || st.BFD.DetectionTimeMilliseconds != tt.detect {
							return fmt.Errorf("it says %s, %+v; want BFD up, %d ms and %d ms", st.State, st.BFD, tt.transmit, tt.detect)
						}
						return nil
					})
				}
			}
		})
	}
}

const ms = time.Millisecond

// With echo the router returns packets that it does not look at; it may send some
// too.
func TestBFDEcho(t *testing.T) {
	t.Parallel()
	s := open(t)
	p := s.plane(0, "64500", "bfd")
	s.bfdProfile(p.group, "detect-multiplier 20", "echo-mode", "echo transmit-interval 60", "echo receive-interval 60")
	p.router("bfd profile " + p.group)
	profile := s.BFDProfile("echo", "echoMode: true, echoInterval: 80, detectMultiplier: 20")
	peer := p.peer("v4", false, ebgp+", bfdProfile: "+profile+", "+on("node1"))
	s.tor.BFDWith(p.node("node1", false), func(b lab.BFDPeer) error {
		if b.Status != "up" || b.RemoteEchoReceive != 80*ms {
			return fmt.Errorf("it is %s, and we take echo packets every %s; want up, and every 80ms", b.Status, b.RemoteEchoReceive)
		}
		return nil
	})
	s.WaitSession(peer, "node1", nil)
	// The echo packets come back: there are ever more of them.
	enough := 10.0
	s.Eventually(harness.Patience, func() error {
		m, err := s.SpeakerMetrics("node1")
		if err != nil {
			return err
		}
		in, err := m.Value("metallb_bfd_echo_packet_input", "peer", p.of(0, false).String())
		if err == nil && in < enough {
			err = fmt.Errorf("%v echo packets have come back, want %v", in, enough)
		}
		return err
	})
	s.WaitSession(peer, "node1", func(st harness.BGPSession) error {
		if st.State != "Established" || st.BFD == nil || st.BFD.State != "Up" {
			return fmt.Errorf("it says %s, %+v", st.State, st.BFD)
		}
		return nil
	})
}

// Intervals that change are negotiated in the running session; BGP does not notice.
func TestBFDProfileChanges(t *testing.T) {
	t.Parallel()
	s := open(t)
	p := s.plane(0, "64500", "bfd")
	profile := s.BFDProfile("b", "receiveInterval: 300, transmitInterval: 300")
	p.peer("v4", false, ebgp+", bfdProfile: "+profile+", "+on("node1"))
	s.tor.BFDWith(p.node("node1", false), nil)
	s.BFDProfile("b", "receiveInterval: 500, transmitInterval: 400, detectMultiplier: 4")
	s.tor.BFDWith(p.node("node1", false), func(b lab.BFDPeer) error {
		if b.Status != "up" || b.RemoteReceive != 500*ms || b.RemoteTransmit != 400*ms || b.RemoteMultiplier != 4 {
			return fmt.Errorf("it is %+v", b)
		}
		return nil
	})
	if n := p.neighbor("node1", false, nil); n.Ups != 1 || n.Downs != 0 {
		t.Errorf("the session was up %d times and lost %d times: %s", n.Ups, n.Downs, n.LastReset)
	}
}

// A router that ends BFD on purpose does not end BGP.
func TestBFDSwitchedOffOnPurpose(t *testing.T) {
	t.Parallel()
	s := open(t)
	p := s.plane(0, "64500", "bfd")
	s.bfdProfile(p.group)
	p.router("bfd profile " + p.group)
	profile := s.BFDProfile("b", "")
	peer := p.peer("v4", false, ebgp+", bfdProfile: "+profile+", "+on("node1"))
	up := func(state string) {
		t.Helper()
		s.WaitSession(peer, "node1", func(st harness.BGPSession) error {
			if st.State != "Established" || st.BFD == nil || st.BFD.State != state {
				return fmt.Errorf("it is %s with BFD %+v, want Established, and BFD %s", st.State, st.BFD, state)
			}
			return nil
		})
	}
	up("Up")
	_, err := s.tor.Vtysh(s.Ctx, "configure terminal", "bfd", "profile "+p.group, "shutdown")
	s.Must(err)
	up("Down")
	_, err = s.tor.Vtysh(s.Ctx, "configure terminal", "bfd", "profile "+p.group, "no shutdown")
	s.Must(err)
	up("Up")
	if n := p.neighbor("node1", false, nil); n.Ups != 1 || n.Downs != 0 {
		t.Errorf("the session was up %d times and lost %d times: %s", n.Ups, n.Downs, n.LastReset)
	}
}

// A node without power is out of the routes long before BGP itself would notice,
// and connections go to the others; when it has booted it is in again.
func TestNodeLosesPower(t *testing.T) {
	s := open(t)
	s.advertise("a", "")
	s.Echo("web", 2, "node1", "node2")
	s.Service("web", harness.Dual, harness.From(s.pool))
	s.addrs = s.WaitAddresses("web", 2)
	s.routed(s.addrs, s.Nodes()...)
	s.sharedUp()
	for _, v6 := range []bool{false, true} {
		n, err := s.State.Layout.Node("node3")
		s.Must(err)
		s.tor.BFDWith(n.Interfaces[0].Addr(v6), nil)
	}
	start := time.Now()
	boot := s.PowerOff("node3")
	s.routed(s.addrs, "node1", "node2")
	took := time.Since(start)
	t.Logf("the routes went within %s", took.Round(time.Millisecond))
	// BFD needs 3 s, the hold timer 90 s.
	if took > 15*time.Second {
		t.Errorf("the routes went after %s, want about three seconds", took)
	}
	for _, a := range s.addrs {
		s.answeredFrom(a, "node1", "node2")
	}
	boot()
	s.routed(s.addrs, s.Nodes()...)
}

// A link that is cut and mended: BFD takes the routes away, and the sessions come
// back by themselves.
func TestLinkIsCutAndMended(t *testing.T) {
	s := stageFor(t, "")
	s.routed(s.addrs, s.Nodes()...)
	plug := s.PullCable("node2", "eth0")
	s.routed(s.addrs, "node1", "node3")
	s.WaitSession(shared4, "node2", func(st harness.BGPSession) error {
		if st.State == "Established" || st.LastDown == nil || st.LastDown.Reason == "" {
			return fmt.Errorf("it says %+v", st)
		}
		return nil
	})
	plug()
	s.routed(s.addrs, s.Nodes()...)
	s.WaitSession(shared4, "node2", nil)
}
