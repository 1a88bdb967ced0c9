//go:build lab

package bgp

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

// bird runs BIRD on a node, as the network plug-in of a cluster does, until the
// test ends. It returns how to ask it.
func (s *stage) bird(node, config string) (ask func(command ...string) (string, error)) {
	s.Helper()
	dir := s.TempDir()
	conf, control := filepath.Join(dir, "bird.conf"), filepath.Join(dir, "ctl")
	s.Must(os.WriteFile(conf, []byte(config), 0o644))
	ctx, cancel := context.WithCancel(context.Background())
	var log bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.ExecTo(ctx, node, nil, &log, &log, "/usr/sbin/bird", "-f", "-c", conf, "-s", control) // killed in the end
	}()
	s.Cleanup(func() {
		cancel()
		<-done
		if s.Failed() {
			s.Logf("BIRD on %s:\n%s", node, log.String())
		}
	})
	ask = func(command ...string) (string, error) {
		return s.Exec(s.Ctx, node, append([]string{"/usr/sbin/birdc", "-s", control}, command...)...)
	}
	s.Eventually(harness.Patience, func() error {
		_, err := ask("show", "status")
		return err
	})
	return ask
}

// A network plug-in's BIRD owns port 179 of the node and its session with the
// router; Herald has its sessions beside it, hands it routes as a peer of
// 127.0.0.1, and says so where it cannot have the port.
func TestBesideANetworkPlugin(t *testing.T) {
	t.Parallel()
	s := open(t)
	check := s.untouched()
	p := s.plane(0, "64500")
	ask := s.bird("node1", fmt.Sprintf(`
log stderr all;
router id 10.77.0.1;
protocol device {}
protocol bgp tor {
  local %s as 64500;
  neighbor %s as 64601;
  connect delay time 1; error wait time 1, 2;
  ipv4 { import none; export all; next hop self; };
}
protocol bgp herald {
  local 127.0.0.1 as 64500;
  neighbor 127.0.0.1 as 64777;
  multihop 2;
  passive on;
  ipv4 { import all; export none; gateway recursive; };
}
`, p.node("node1", false), p.of(0, false)))
	p.neighbor("node1", false, nil)

	daemon := s.Peer("daemon", "myASN: 64777, peerASN: 64500, peerAddress: 127.0.0.1, ebgpMultiHop: true, "+on("node1"))
	s.WaitSession(daemon, "node1", nil)
	s.advertiseTo("a", `communities: ["64500:127"]`, daemon)
	s.web("web", harness.V4)
	a := s.WaitAddress("web")
	s.Eventually(harness.Patience, func() error {
		text, err := ask("show", "route", "all", a.String()+"/32")
		if err == nil && (!strings.Contains(text, "64777") || !strings.Contains(text, "(64500,127)")) {
			err = fmt.Errorf("BIRD on node1 has %s", text)
		}
		return err
	})
	p.path("node1", host(a), exactly("as-path 64500 64777 communities 64500:127"))

	check()
}

// Peers that dial need a capability that the default installation does not give:
// the session says which, and nobody else suffers.
func TestPeersThatDialNeedACapability(t *testing.T) {
	t.Parallel()
	s := open(t)
	check := s.untouched()
	p := s.plane(0, "64500")
	passive := p.peer("passive", false, ebgp+", passiveMode: true, "+on("node1"))
	prefix := s.Peer("prefix", ebgp+", peerPrefix: 10.99.0.0/24, "+on("node2"))
	s.WaitSession(passive, "node1", because("PortForbidden", "179"))
	s.WaitSession(prefix, "node2", because("PortForbidden", "179"))
	s.warned("BGPPeer", passive, "PortForbidden")
	check()
}
