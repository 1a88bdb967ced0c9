package probe

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// An outage is counted from the last success before it to the first after it.
func TestTheLongestOutage(t *testing.T) {
	start := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	const ms = time.Millisecond
	for _, tc := range []struct {
		story  string
		probes string // one letter every 5 ms: . succeeds, x fails
		want   Result
	}{
		{"all is well", "......", Result{Total: 6}},
		{"one is lost", "..x...", Result{Total: 6, Lost: 1, Longest: 10 * ms, Since: start.Add(5 * ms)}},
		{"the longer of two", "..xx..xxx.", Result{Total: 10, Lost: 5, Longest: 20 * ms, Since: start.Add(25 * ms)}},
		{"out from the start", "xx..", Result{Total: 4, Lost: 2, Longest: 10 * ms, Since: start}},
		{"out at the end", "..xx", Result{Total: 4, Lost: 2, Longest: 15 * ms, Since: start.Add(5 * ms), Open: true}},
		{"never there", "xxxx", Result{Total: 4, Lost: 4, Longest: 20 * ms, Since: start, Open: true}},
	} {
		t.Run(tc.story, func(t *testing.T) {
			l := &log{}
			for i, c := range tc.probes {
				var err error
				if c == 'x' {
					err = errors.New("lost")
				}
				l.end(l.begin(start.Add(time.Duration(i)*5*ms)), 0, err)
			}
			got := l.result(Target{}, start.Add(time.Duration(len(tc.probes))*5*ms))
			got.Target, got.Errors = "", nil
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseTarget(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:80":             "tcp://192.0.2.1:80",
		"udp://[2001:db8::1]:9000": "udp://[2001:db8::1]:9000",
		"flow://192.0.2.1:9000":    "flow://192.0.2.1:9000",
	} {
		got, err := ParseTarget(in)
		if err != nil || got.String() != want {
			t.Errorf("ParseTarget(%q) = %s, %v, want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", "192.0.2.1", "http://192.0.2.1:80", "tcp://web:80"} {
		if got, err := ParseTarget(in); err == nil {
			t.Errorf("ParseTarget(%q) = %s, want an error", in, got)
		}
	}
}

// echo serves what the probes need on loopback until the test ends.
func echo(t *testing.T) (tcp, udp netip.AddrPort) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); u.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.WriteString(conn, "hello\n") // a greeting, as the workload has it
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = u.WriteTo(buf[:n], from)
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort(), u.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestProbesOfAServerThatRuns(t *testing.T) {
	tcp, udp := echo(t)
	nobody := netip.MustParseAddrPort("127.0.0.1:1")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	results, err := Run(ctx, Options{Interval: 2 * time.Millisecond, Timeout: maxTimeout, Targets: []Target{
		{"tcp", tcp}, {"udp", udp}, {"flow", tcp}, {"tcp", nobody}, {"flow", nobody},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results[:3] {
		if r.Total == 0 || r.Lost != 0 || r.Longest != 0 || r.Broken != 0 || r.Max == 0 {
			t.Errorf("a server that runs: %+v", r)
		}
	}
	for _, r := range results[3:] {
		if r.Total == 0 || r.Lost != r.Total || !r.Open || r.Errors["connection refused"] != r.Total {
			t.Errorf("a port where nobody listens: %+v", r)
		}
	}
}

func TestATimeoutThatHidesLossesIsRefused(t *testing.T) {
	_, err := Run(t.Context(), Options{Timeout: time.Second, Targets: []Target{{}}})
	if err == nil {
		t.Error("a timeout of a second is accepted, though TCP repeats a SYN by then")
	}
}
