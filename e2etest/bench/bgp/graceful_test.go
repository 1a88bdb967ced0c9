//go:build lab

package bgp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heraldlb/herald/e2etest/lab/nsnet"
)

const (
	restarts = 3 // of each kind of router
	// every is the time between two packets.
	every = time.Millisecond
)

// The client and its router.
var (
	clientAddr = netip.MustParsePrefix("198.51.100.10/24")
	beyondAddr = netip.MustParsePrefix("198.51.100.1/24")
)

// BenchmarkRestart restarts a speaker whose peer keeps routes (RFC 4724), as an
// update does, while a client behind the router sends a packet every millisecond
// to the address of a Service, and counts the packets that did not arrive.
func BenchmarkRestart(b *testing.B) {
	r := newRig(b)
	r.makeServices(0, few)
	r.advertise()
	routers := r.addRouters(neighbor{}, neighbor{bird: true})
	frr, bird := routers[0], routers[1]
	r.peers(routers, with("enableGracefulRestart", true))
	r.startSpeaker(nil)
	r.speaker.ready()
	r.awaitRoutes(few, routers...)
	r.awaitUp(routers...)
	lost := 0
	for run := range 2 * restarts {
		n := []*router{frr, bird}[run%2]
		client := r.addClient(n, run)
		t := r.send(client, addressOf(0), uint16(9000+run))
		r.pause(500 * time.Millisecond)
		_, _, before := n.kernel.state()
		sessions, _, err := n.sessions()
		r.must(err)
		began := time.Now()
		r.speaker.stop()
		r.speaker.start()
		r.until("the session is there again", 20*time.Millisecond, func() error {
			now, up, err := n.sessions()
			if err != nil || !up || now == sessions {
				return errors.Join(errors.New("it is not"), err)
			}
			return nil
		})
		took := time.Since(began)
		r.speaker.ready()
		r.pause(time.Second) // stale routes would go now
		_, _, after := n.kernel.state()
		missing, total := t.stop(r)
		lost += missing
		r.load(fmt.Sprintf("restart %d: %s had its session again after %.2f s; %d routes went; %d of %d packets were lost",
			run+1, n.name, took.Seconds(), after-before, missing, total))
	}
	b.ReportMetric(float64(lost), "bgp.gr_restart_lost_packets")
}

// addClient wires a machine to the far side of a router until the benchmark ends.
func (r *rig) addClient(n *router, number int) *nsnet.Namespace {
	r.Helper()
	name := fmt.Sprintf("client%d", number)
	ns, err := nsnet.Create(name)
	r.must(err)
	r.Cleanup(func() {
		_ = ns.Unplug("eth0")
		ns.Close()
		_ = nsnet.Delete(name)
	})
	side := fmt.Sprintf("far%d", number)
	r.must(nsnet.Wire(nsnet.End{Namespace: ns, Name: "eth0"}, nsnet.End{Namespace: n.net, Name: side}))
	addr := func(p netip.Prefix, last byte) netip.Prefix {
		a := p.Addr().As4()
		a[2] += byte(number)
		a[3] = last
		return netip.PrefixFrom(netip.AddrFrom4(a), p.Bits())
	}
	r.must(ns.Address("eth0", addr(clientAddr, 10)))
	r.must(n.net.Address(side, addr(beyondAddr, 1)))
	r.must(ns.Route(netip.MustParsePrefix("0.0.0.0/0"), addr(beyondAddr, 1).Addr()))
	return ns
}

// traffic is a stream of numbered packets to one address.
type traffic struct {
	stopped, ended chan struct{}
	sent           atomic.Int64
	sendErr        error
	arrived        chan int
	listener       *net.UDPConn
}

// send sends packets from a machine to an address of the node until it is stopped.
func (r *rig) send(from *nsnet.Namespace, to netip.Addr, port uint16) *traffic {
	r.Helper()
	// The Service's address, as kube-proxy would take it on the node.
	out, err := exec.Command("ip", "addr", "replace", to.String()+"/32", "dev", "lo").CombinedOutput()
	if err != nil {
		r.Fatalf("ip addr: %v: %s", err, out)
	}
	t := &traffic{stopped: make(chan struct{}), ended: make(chan struct{}), arrived: make(chan int, 1)}
	at := net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, port))
	t.listener, err = net.ListenUDP("udp4", at)
	r.must(err)
	r.must(t.listener.SetReadBuffer(16 << 20))
	go t.receive()
	var conn net.Conn
	r.must(from.Do(func() (err error) {
		conn, err = net.DialUDP("udp4", nil, at)
		return err
	}))
	go t.transmit(conn)
	return t
}

// transmit sends a packet every millisecond, and catches up when it had to wait.
func (t *traffic) transmit(conn net.Conn) {
	defer close(t.ended)
	defer conn.Close()
	tick := time.NewTicker(every)
	defer tick.Stop()
	start := time.Now()
	for {
		select {
		case <-t.stopped:
			return
		case <-tick.C:
		}
		for t.sent.Load() < int64(time.Since(start)/every) {
			packet := binary.BigEndian.AppendUint64(make([]byte, 0, 64), uint64(t.sent.Load()))
			if _, err := conn.Write(packet); err != nil {
				t.sendErr = errors.Join(t.sendErr, err) // the packet counts as sent, and as lost
			}
			t.sent.Add(1)
		}
	}
}

// receive counts what arrives, each packet once.
func (t *traffic) receive() {
	seen := map[uint64]struct{}{}
	packet := make([]byte, 128)
	for {
		n, err := t.listener.Read(packet)
		if err != nil {
			t.arrived <- len(seen)
			return
		}
		if n >= 8 {
			seen[binary.BigEndian.Uint64(packet)] = struct{}{}
		}
	}
}

// stop ends the stream and returns how many packets were lost, and sent.
func (t *traffic) stop(r *rig) (lost, sent int) {
	r.Helper()
	close(t.stopped)
	<-t.ended
	r.pause(200 * time.Millisecond) // for the last to arrive
	_ = t.listener.Close()
	sent = int(t.sent.Load())
	if t.sendErr != nil {
		r.step("the client's kernel refused packets: %v", t.sendErr)
	}
	return sent - <-t.arrived, sent
}
