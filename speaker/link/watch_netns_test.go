//go:build netns

package link

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/testutil/netns"
	"github.com/heraldlb/herald/speaker/observed"
)

func TestMain(m *testing.M) { os.Exit(netns.Main(m)) }

// TestNetnsWatch follows real interfaces through their lives.
func TestNetnsWatch(t *testing.T) {
	node, peer := netns.Self(t), netns.New(t)
	w := New(Config{Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	// await polls until an interface is as a story's step says; nil is gone.
	await := func(name, step string, is func(observed.Link) bool) {
		t.Helper()
		var last observed.Link
		netns.Wait(t, 5*time.Second, fmt.Sprintf("%s: %s", name, step), func() bool {
			i := slices.IndexFunc(w.Observed(), func(l observed.Link) bool { return l.Name == name })
			if i < 0 {
				return is == nil
			}
			last = w.Observed()[i]
			return is != nil && is(last)
		})
	}

	await("lo", "the first dump", func(l observed.Link) bool { return l.Loopback })
	node.Sysctl(t, "ipv6/conf/default/accept_dad", "1")
	netns.Veth(t, node, "eth0", peer, "p0")
	mac := node.MAC(t, "eth0").String()
	await("eth0", "appears with a carrier", func(l observed.Link) bool {
		return l.Up && l.Carrier && l.Broadcast && l.Multicast && l.Kind == "veth" && l.MAC.String() == mac
	})
	node.IP(t, "addr add 10.0.0.5/24 dev eth0")
	await("eth0", "has its prefix", func(l observed.Link) bool {
		return slices.Equal(l.Prefixes, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")})
	})
	await("eth0", "has a link-local address after duplicate address detection", func(l observed.Link) bool {
		return l.LinkLocal.IsLinkLocalUnicast()
	})
	peer.IP(t, "link set p0 down")
	await("eth0", "loses its carrier", func(l observed.Link) bool { return l.Up && !l.Carrier })
	peer.IP(t, "link set p0 up")
	await("eth0", "has it again", func(l observed.Link) bool { return l.Carrier })
	node.IP(t, "link set eth0 address 02:00:00:00:00:77")
	await("eth0", "has a new Ethernet address", func(l observed.Link) bool { return l.MAC.String() == "02:00:00:00:00:77" })
	node.IP(t, "link add br0 type bridge")
	t.Cleanup(func() { _, _ = node.Try(t, "ip", "link", "del", "br0") })
	node.IP(t, "link set eth0 master br0")
	await("eth0", "is a port", func(l observed.Link) bool { return l.Master != 0 && l.MasterKind == "bridge" })
	node.IP(t, "link set eth0 nomaster")
	await("eth0", "is a port no more, and not gone", func(l observed.Link) bool { return l.Master == 0 && l.MasterKind == "" })
	node.IP(t, "link set eth0 down")
	node.IP(t, "link set eth0 name lan0")
	await("lan0", "has another name", func(l observed.Link) bool { return !l.Up })
	await("eth0", "is gone by that name", nil)
	node.IP(t, "link del lan0")
	await("lan0", "is gone", nil)
}

// TestNetnsWatchManyInterfaces makes more events than a reader can follow one by
// one; in the end all is known.
func TestNetnsWatchManyInterfaces(t *testing.T) {
	node := netns.Self(t)
	published := make(chan struct{}, 10_000)
	w := New(Config{Logger: slog.New(slog.DiscardHandler), OnChange: func(observed.Links) { published <- struct{}{} }})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	const pods = 100
	t.Cleanup(func() {
		_, _ = node.Try(t, "sh", "-c", fmt.Sprintf("for i in $(seq %d); do ip link del pod$i; done", pods))
	})
	node.Run(t, "sh", "-c", fmt.Sprintf(
		"for i in $(seq %d); do ip link add pod$i type veth peer name end$i; ip link set pod$i up; ip link set end$i up; ip addr add 10.1.$i.1/24 dev pod$i; done", pods))
	netns.Wait(t, 10*time.Second, "all interfaces with their prefixes", func() bool {
		complete := 0
		for _, l := range w.Observed() {
			if l.Carrier && len(l.Prefixes) == 1 && !l.Loopback {
				complete++
			}
		}
		return complete == pods
	})
	t.Logf("published %d times for at least %d events", len(published), 7*pods)
}
