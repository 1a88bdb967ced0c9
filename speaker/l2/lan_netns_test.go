//go:build netns

package l2

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/arp"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/testutil/netns"
	"github.com/heraldlb/herald/speaker/link"
	"github.com/heraldlb/herald/speaker/observed"
)

// A lan is a node, which is the namespace of the tests, a client, and a cable
// between them: eth0 on the node, c0 on the client. On the node runs the room
// with real sockets, fed by the real link room, as the speaker wires them.
type lan struct {
	node, client *netns.NS
	a            *Announcer
	log          *bytes.Buffer
	reg          *prometheus.Registry
}

func newLAN(t testing.TB) *lan {
	t.Helper()
	n := &lan{node: netns.Self(t), client: netns.New(t), log: new(bytes.Buffer), reg: prometheus.NewPedanticRegistry()}
	for _, ns := range []*netns.NS{n.node, n.client} {
		// Link-local addresses are usable at once. Nothing on the client
		// answers but the room.
		ns.Sysctl(t, "ipv6/conf/default/accept_dad", "0")
		ns.Sysctl(t, "ipv6/conf/default/router_solicitations", "0")
	}
	n.cable(t, "eth0", "c0")
	n.client.IP(t, "addr add 10.0.0.7/24 dev c0")
	n.client.IP(t, "addr add 2001:db8::7/64 dev c0")
	n.run(t)
	n.awaitLinks(t, "eth0")
	return n
}

func (n *lan) cable(t testing.TB, atNode, atClient string) {
	t.Helper()
	netns.Veth(t, n.node, atNode, n.client, atClient)
}

// run starts the room until the test ends.
func (n *lan) run(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.NewTextHandler(n.log, nil))
	a, err := New(Config{Logger: log, Registerer: n.reg})
	if err != nil {
		t.Fatal(err)
	}
	n.a = a
	watcher := link.New(link.Config{Logger: log, OnChange: func(all observed.Links) {
		a.SetLinks(link.Announcing(all, link.Exclude{}))
	}})
	done := make(chan error, 2)
	go func() { done <- watcher.Run(ctx) }()
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if t.Failed() {
			t.Logf("the room's log:\n%s", n.log)
		}
	})
}

// awaitLinks waits until the room can serve both families from interfaces.
func (n *lan) awaitLinks(t testing.TB, names ...string) {
	t.Helper()
	netns.Wait(t, 10*time.Second, "interfaces that can announce: "+strings.Join(names, ", "), func() bool {
		ps := n.a.ports.Load()
		for _, name := range names {
			if p := ps.byName[name]; p == nil || !p.arp || !p.ndp {
				return false
			}
		}
		return true
	})
}

// awaitAnnounced waits until an address is announced from interfaces, and the
// kernel lets its questions through.
func (n *lan) awaitAnnounced(t testing.TB, addr netip.Addr, names ...string) {
	t.Helper()
	netns.Wait(t, 10*time.Second, fmt.Sprintf("%s announced from %v", addr, names), func() bool {
		o, ok := n.a.ObservedAddress(addr)
		return ok && fmt.Sprint(o.Interfaces) == fmt.Sprint(names) && n.counter(t, "metallb_layer2_gratuitous_sent", addr) > 0
	})
}

// awaitQuiet waits until the burst of an address is over: longer than its widest
// gap nothing was sent.
func (n *lan) awaitQuiet(t testing.TB, addr netip.Addr) {
	t.Helper()
	last, since := -1.0, time.Now()
	netns.Wait(t, 30*time.Second, "the end of the burst of "+addr.String(), func() bool {
		if now := n.counter(t, "metallb_layer2_gratuitous_sent", addr); now != last {
			last, since = now, time.Now()
		}
		return last > 0 && time.Since(since) > 1500*time.Millisecond
	})
}

// counter reads one of the room's metrics for an address.
func (n *lan) counter(t testing.TB, name string, addr netip.Addr) float64 {
	t.Helper()
	families, err := n.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			labels := m.GetLabel()
			if f.GetName() == name && (len(labels) == 0 || labels[0].GetValue() == addr.String()) {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// arping asks for an address from the client and returns the Ethernet address
// of the answer, "" if none comes. More options go to the tool.
func (n *lan) arping(t testing.TB, addr netip.Addr, dev string, options ...string) string {
	t.Helper()
	out, err := n.client.Try(t, "arping", append(options, "-r", "-c", "1", "-w", "1", "-i", dev, addr.String())...)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(out)
}

// ndisc asks for an IPv6 address from the client, like arping.
func (n *lan) ndisc(t testing.TB, addr netip.Addr, dev string) string {
	t.Helper()
	out, err := n.client.Try(t, "ndisc6", "-1", "-q", "-r", "1", "-w", "500", addr.String(), dev)
	if err != nil {
		return ""
	}
	return strings.ToLower(strings.TrimSpace(out))
}

// ask is arping or ndisc, after the address's family.
func (n *lan) ask(t testing.TB, addr netip.Addr, dev string) string {
	t.Helper()
	if addr.Is4() {
		return n.arping(t, addr, dev)
	}
	return n.ndisc(t, addr, dev)
}

// wantAnswer asks and compares the answer. An answer that is due may take three
// questions, as a busy machine can make the tool's time run out.
func (n *lan) wantAnswer(t testing.TB, addr netip.Addr, dev, want string) {
	t.Helper()
	got := n.ask(t, addr, dev)
	for range 2 {
		if want != "" && got == "" {
			got = n.ask(t, addr, dev)
		}
	}
	if got != want {
		t.Errorf("%s asked on %s: answer %q, want %q", addr, dev, got, want)
	}
}

// send puts a frame on the cable from a client's interface.
func (n *lan) send(t testing.TB, dev string, frames ...[]byte) {
	t.Helper()
	n.client.Do(t, func() error {
		ifi, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, frame := range frames {
			if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: ifi.Index}); err != nil {
				return fmt.Errorf("send a frame of %d bytes: %w", len(frame), err)
			}
		}
		return nil
	})
}

// A capture is tshark on a client's interface.
type capture struct {
	p *netns.Process
}

// sentinel is asked for by nobody else: it shows that a capture sees frames.
const sentinel = "192.0.2.1"

// capture starts tshark and returns once it sees frames. Each line it writes
// is what the fields of a frame are, separated by bars.
func (n *lan) capture(t testing.TB, dev, filter string, fields ...string) *capture {
	t.Helper()
	args := []string{"-i", dev, "-l", "-n", "-Q", "-f", "arp or icmp6", "-Y", "(" + filter + ") or arp.dst.proto_ipv4==" + sentinel,
		"-o", "arp.detect_request_storms:FALSE", "-T", "fields", "-E", "separator=|", "-E", "aggregator= "}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	c := &capture{n.client.Start(t, nil, "tshark", args...)}
	signal := arpFrameOf(t, broadcast, theirMAC, arp.OperationRequest, theirMAC, "192.0.2.2", hwAddr{}, sentinel)
	netns.Wait(t, 30*time.Second, "tshark to see a frame", func() bool {
		select {
		case <-c.p.Done():
			t.Fatalf("tshark ended: %s", c.p.Errors())
		default:
		}
		n.send(t, dev, signal)
		time.Sleep(50 * time.Millisecond)
		return strings.Contains(c.p.Output(), "\n")
	})
	return c
}

// lines are the frames so far, without the sentinels: those carry the client's
// made-up station, which no test asks for otherwise.
func (c *capture) lines() []string {
	var all []string
	for _, line := range strings.Split(strings.TrimSpace(c.p.Output()), "\n") {
		if line != "" && !strings.HasPrefix(line, net.HardwareAddr(theirMAC[:]).String()) {
			all = append(all, line)
		}
	}
	return all
}

// inGroup tells whether the node's interface is in an address's solicited-node
// group, by the kernel's own list.
func inGroup(t testing.TB, dev string, addr netip.Addr) bool {
	t.Helper()
	list, err := os.ReadFile("/proc/net/igmp6")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(list), "\n") {
		m, ok := parseIGMP6(line)
		if ok && strings.Fields(line)[1] == dev && m.group == groupOf(addr) {
			return true
		}
	}
	return false
}
