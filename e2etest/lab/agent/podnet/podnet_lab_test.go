//go:build lab

package podnet

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const insideEnv = "HERALD_PODNET_TEST_INSIDE"

var nodeAddrs = []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("fd77::10")}

// TestMain runs the tests in a new network namespace, which is the node's.
func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) == "" {
		if os.Geteuid() != 0 {
			fmt.Fprintln(os.Stderr, "these tests make network namespaces; run them as root")
			os.Exit(1)
		}
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Env = append(os.Environ(), insideEnv+"=1")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		if err := cmd.Run(); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	for _, args := range []string{"link set lo up", "addr add 192.0.2.10/32 dev lo", "addr add fd77::10/128 dev lo nodad"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "ip %s: %v: %s\n", args, err, out)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// in runs f in the pod's namespace. Sockets that f makes stay in it.
func in(t *testing.T, p *Pod, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread ends in the pod's namespace
		if err := unix.Setns(int(p.NS.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func newNode(t *testing.T) *Node {
	t.Helper()
	n, err := NewNode([]netip.Prefix{netip.MustParsePrefix("10.77.1.0/24"), netip.MustParsePrefix("fd77:1::/64")}, nodeAddrs)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func attach(t *testing.T, n *Node, id string) *Pod {
	t.Helper()
	p, err := n.Attach(id, map[string]string{"net.ipv4.ip_default_ttl": "33"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// serve answers each connection with the address it came from.
func serve(t *testing.T, p *Pod, port string) {
	t.Helper()
	for _, a := range p.Addrs {
		var l net.Listener
		in(t, p, func() (err error) { l, err = net.Listen("tcp", net.JoinHostPort(a.String(), port)); return err })
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprint(c, netip.MustParseAddrPort(c.RemoteAddr().String()).Addr())
				c.Close()
			}
		}()
	}
}

func ask(addr netip.Addr, port string) (string, error) {
	c, err := net.DialTimeout("tcp", net.JoinHostPort(addr.String(), port), 2*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	return string(b), err
}

func TestPodsTalkAtOnce(t *testing.T) {
	n := newNode(t)
	server, client := attach(t, n, "server"), attach(t, n, "client")
	serve(t, server, "80") // a port that an unprivileged user may take too
	for i, a := range server.Addrs {
		if got, err := ask(a, "80"); err != nil || got != nodeAddrs[i].String() {
			t.Errorf("from the node, %s saw %q, %v; want %s", a, got, err, nodeAddrs[i])
		}
		in(t, client, func() error {
			if got, err := ask(a, "80"); err != nil || got != client.Addrs[i].String() {
				t.Errorf("from the other pod, %s saw %q, %v; want %s", a, got, err, client.Addrs[i])
			}
			return nil
		})
	}
	in(t, client, func() error {
		for path, want := range map[string]string{"ipv4/ip_default_ttl": "33", "ipv4/ip_unprivileged_port_start": "0"} {
			if b, err := os.ReadFile("/proc/sys/net/" + path); err != nil || strings.TrimSpace(string(b)) != want {
				t.Errorf("sysctl %s is %q, %v; want %s", path, b, err, want)
			}
		}
		return nil
	})
}

func TestLinksAreRemoved(t *testing.T) {
	n := newNode(t)
	links := func() (names []string) {
		t.Helper()
		all, err := net.Interfaces()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range all {
			if strings.HasPrefix(l.Name, LinkPrefix) {
				names = append(names, l.Name)
			}
		}
		return names
	}
	p, err := n.Attach("one", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := links(); len(got) != 1 {
		t.Fatalf("links %v, want one", got)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if got := links(); len(got) != 0 {
		t.Errorf("links %v after Close, want none", got)
	}
	attach(t, n, "left")
	newNode(t) // a new agent in the same node
	if got := links(); len(got) != 0 {
		t.Errorf("links %v after the sweep, want none", got)
	}
	if _, err := n.Attach("bad", map[string]string{"kernel.hostname": "x"}); err == nil || !strings.Contains(err.Error(), "only net.* sysctls") {
		t.Errorf("error %v, want that the sysctl is not the pod's", err)
	}
	if got := links(); len(got) != 0 {
		t.Errorf("links %v after a failed attachment, want none", got)
	}
}

func BenchmarkAttach(b *testing.B) {
	n, err := NewNode([]netip.Prefix{netip.MustParsePrefix("10.77.1.0/24"), netip.MustParsePrefix("fd77:1::/64")}, nodeAddrs)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		p, err := n.Attach("bench", nil)
		if err != nil {
			b.Fatal(err)
		}
		if err := p.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
