//go:build netns

package l2

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/speaker/desired"
)

const (
	// stormEnv makes the test binary a generator: "interface rate seconds".
	stormEnv     = "HERALD_TEST_STORM"
	stormRate    = 20_000
	stormSeconds = 5
)

// storm sends ARP requests for addresses that nobody on the node has, at an
// even pace, and prints how many.
func storm() int {
	var dev string
	var rate, seconds int
	if _, err := fmt.Sscan(os.Getenv(stormEnv), &dev, &rate, &seconds); err != nil {
		fmt.Fprintln(os.Stderr, "storm:", err)
		return 1
	}
	sent, err := stormFrom(dev, rate, time.Duration(seconds)*time.Second)
	if err != nil {
		fmt.Fprintln(os.Stderr, "storm:", err)
		return 1
	}
	fmt.Println(sent)
	return 0
}

func stormFrom(dev string, rate int, span time.Duration) (int, error) {
	ifi, err := net.InterfaceByName(dev)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	frame := make([]byte, arpFrame)
	copy(frame, broadcast[:])
	copy(frame[ethSource:], ifi.HardwareAddr)
	binary.BigEndian.PutUint64(frame[ethType:], 0x0806_0001_0800_0604)
	binary.BigEndian.PutUint16(frame[arpOperation:], 1)
	copy(frame[arpSenderMAC:], ifi.HardwareAddr)
	copy(frame[arpSenderAddr:], []byte{10, 0, 0, 7})
	rng := rand.New(rand.NewPCG(1, 2))
	begin, sent := time.Now(), 0
	for {
		elapsed := time.Since(begin)
		if elapsed >= span {
			return sent, nil
		}
		for due := int(elapsed.Seconds() * float64(rate)); sent < due; sent++ {
			copy(frame[arpTargetAddr:], stormTarget(rng))
			if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: ifi.Index}); err != nil {
				return sent, err
			}
		}
		time.Sleep(time.Millisecond)
	}
}

// stormTarget is half the time a member of our pool that another node owns, and
// otherwise an address of another subnet.
func stormTarget(rng *rand.Rand) []byte {
	if rng.IntN(2) == 0 {
		return v4(0x0a140000 + 3*uint32(rng.IntN(1666)) + 2).AsSlice()
	}
	return v4(0x0a630000 + uint32(rng.IntN(65_536))).AsSlice()
}

// stormTable is our part of a pool of 5,000 of which every third address is
// another node's.
func stormTable() desired.L2 {
	want := make(desired.L2)
	for i := range uint32(5000) {
		if i%3 != 2 {
			want[v4(0x0a140000+i)] = desired.L2Address{}
		}
	}
	return want
}

// processTime is the CPU time that this process has used, in user space and in
// the kernel.
func processTime(t testing.TB) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// stormed sends foreign requests from the client and returns how many there
// were, and the CPU time that the node's process used meanwhile.
func stormed(t testing.TB, n *lan, seconds int) (sent int, used, took time.Duration) {
	t.Helper()
	before, begin := processTime(t), time.Now()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := n.client.Start(t, []string{fmt.Sprintf("%s=c0 %d %d", stormEnv, stormRate, seconds)}, self)
	<-p.Done()
	used, took = processTime(t)-before, time.Since(begin)
	sent, err = strconv.Atoi(strings.TrimSpace(p.Output()))
	if err != nil {
		t.Fatalf("the generator failed: %s", p.Errors())
	}
	return sent, used, took
}

// settledLAN is a node with the storm's table after its bursts.
func settledLAN(t testing.TB) *lan {
	n := newLAN(t)
	want := stormTable()
	n.a.Set(want)
	last := netip.MustParseAddr("10.20.0.0")
	n.awaitQuiet(t, last)
	return n
}

// Foreign requests do not reach the process, whatever their number: no frame is
// received, and every sound question is still answered.
func TestNetnsForeignRequestsStayInTheKernel(t *testing.T) {
	n := settledLAN(t)
	mac := n.node.MAC(t, "eth0").String()
	before := n.a.metrics.received.Load()
	sent, used, _ := stormed(t, n, 1)
	t.Logf("%d foreign requests used %s of CPU time", sent, used)
	if sent < stormRate/2 {
		t.Errorf("only %d requests were sent", sent)
	}
	if got := n.a.metrics.received.Load() - before; got != 0 {
		t.Errorf("%d frames reached the process, want none", got)
	}
	n.wantAnswer(t, netip.MustParseAddr("10.20.0.1"), "c0", mac)
}

// BenchmarkNetnsStorm20k measures l2.storm20k_cpu_pct: what 20,000 foreign ARP
// requests per second cost the process, in per cent of a core.
func BenchmarkNetnsStorm20k(b *testing.B) {
	n := settledLAN(b)
	var used, took time.Duration
	for b.Loop() {
		sent, u, d := stormed(b, n, stormSeconds)
		if sent < stormRate*stormSeconds*9/10 {
			b.Fatalf("the generator sent only %d requests in %d s", sent, stormSeconds)
		}
		used, took = used+u, took+d
	}
	b.ReportMetric(100*used.Seconds()/took.Seconds(), "cpu-pct")
}
