// Package router gives tests real routers, FRR (zebra, bgpd, bfdd) and BIRD 2, and
// ExaBGP, which says what it is told to. Each is in a network namespace,
// configured in its own language and asked in its own words. Whatever it starts
// ends with the test.
//
// It is for tests only and needs root and the packages frr, bird2 and exabgp.
package router

import (
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/testutil/netns"
)

// startTime bounds the start of a daemon.
const startTime = 20 * time.Second

// A Router is one FRR or BIRD.
type Router struct {
	// NS is where it lives.
	NS *netns.NS

	kind      kind
	dir       string
	processes map[string]*netns.Process
}

type kind string

const (
	frr  kind = "frr"
	bird kind = "bird"
)

// FRR starts zebra, bgpd and bfdd in a namespace and gives them a configuration,
// the text of an frr.conf. Their sockets and files are their own, so any number
// of them can run.
func FRR(t testing.TB, ns *netns.NS, config string) *Router {
	t.Helper()
	r := &Router{NS: ns, kind: frr, dir: tempDir(t), processes: make(map[string]*netns.Process)}
	// The daemons run as their own user, and make their sockets as such.
	if out, err := exec.Command("chown", "frr:frr", r.dir).CombinedOutput(); err != nil {
		t.Fatalf("give the directory to FRR's user; the package frr makes it: %v\n%s", err, out)
	}
	for _, daemon := range []string{"zebra", "bgpd", "bfdd"} {
		r.startFRR(t, daemon)
	}
	r.Configure(t, config)
	return r
}

// startFRR starts one daemon and waits until it answers.
func (r *Router) startFRR(t testing.TB, daemon string) {
	t.Helper()
	binary := filepath.Join("/usr/lib/frr", daemon)
	need(t, binary, "frr")
	args := []string{"--vty_socket", r.dir, "-z", r.path("zserv.api"), "-i", r.path(daemon + ".pid"),
		"-f", "/dev/null", "-A", "127.0.0.1", "-P", "0", "--log", "stdout"}
	if daemon == "bfdd" {
		args = append(args, "--bfdctl", r.path("bfdd.sock"))
	}
	p := r.NS.Start(t, nil, binary, args...)
	r.processes[daemon] = p
	r.await(t, p, daemon, func() bool {
		_, err := r.try(t, "-d", daemon, "-c", "show version")
		return err == nil
	})
}

// BIRD starts BIRD in a namespace with a configuration, the text of a bird.conf.
func BIRD(t testing.TB, ns *netns.NS, config string) *Router {
	t.Helper()
	need(t, "/usr/sbin/bird", "bird2")
	r := &Router{NS: ns, kind: bird, dir: tempDir(t), processes: make(map[string]*netns.Process)}
	r.write(t, "bird.conf", config)
	p := ns.Start(t, nil, "/usr/sbin/bird", "-f", "-c", r.path("bird.conf"), "-s", r.path("bird.ctl"), "-P", r.path("bird.pid"))
	r.processes["bird"] = p
	r.await(t, p, "bird", func() bool {
		_, err := r.try(t, "show status")
		return err == nil
	})
	return r
}

// Configure changes the configuration: FRR takes the lines as if somebody typed
// them, BIRD takes the whole text in place of the old one.
func (r *Router) Configure(t testing.TB, config string) {
	t.Helper()
	var out string
	var err error
	if r.kind == bird {
		r.write(t, "bird.conf", config)
		out, err = r.try(t, "configure")
	} else {
		r.write(t, "frr.conf", config)
		out, err = r.try(t, "-f", r.path("frr.conf"))
	}
	if err != nil || strings.Contains(out, "% ") || strings.Contains(out, "syntax error") {
		t.Fatalf("%s did not take the configuration: %v\n%s", r.kind, err, out)
	}
}

// Ask gives the router one command, a line of vtysh or birdc, and returns the
// answer. With several lines the later ones follow in the same session.
func (r *Router) Ask(t testing.TB, lines ...string) string {
	t.Helper()
	args := lines
	if r.kind == frr {
		args = nil
		for _, line := range lines {
			args = append(args, "-c", line)
		}
	}
	out, err := r.try(t, args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(lines, "; "), err, r.Log())
	}
	return out
}

// JSON asks FRR a command that answers in JSON.
func (r *Router) JSON(t testing.TB, command string, into any) {
	t.Helper()
	out := r.Ask(t, command)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// try runs vtysh or birdc.
func (r *Router) try(t testing.TB, args ...string) (string, error) {
	t.Helper()
	if r.kind == bird {
		return r.NS.Try(t, "/usr/sbin/birdc", append([]string{"-s", r.path("bird.ctl")}, args...)...)
	}
	return r.NS.Try(t, "/usr/bin/vtysh", append([]string{"--vty_socket", r.dir}, args...)...)
}

// Signal sends a signal to a daemon: zebra, bgpd, bfdd or bird.
func (r *Router) Signal(t testing.TB, daemon string, s syscall.Signal) {
	t.Helper()
	p := r.processes[daemon]
	if p == nil {
		t.Fatalf("%s runs no %s", r.kind, daemon)
	}
	p.Signal(s)
}

// Kill ends a daemon without a farewell.
func (r *Router) Kill(t testing.TB, daemon string) {
	t.Helper()
	r.Signal(t, daemon, syscall.SIGKILL)
	<-r.processes[daemon].Done()
}

// Log is what the daemons wrote so far.
func (r *Router) Log() string {
	var b strings.Builder
	for _, daemon := range []string{"zebra", "bgpd", "bfdd", "bird"} {
		if p := r.processes[daemon]; p != nil {
			b.WriteString(p.Output() + p.Errors())
		}
	}
	return b.String()
}

// A Route is a route that the router put into its kernel's table.
type Route struct {
	NextHops []NextHop
}

// A NextHop is one of the ways of a route. Weight counts from 1.
type NextHop struct {
	Via       netip.Addr
	Interface string
	Weight    int
}

// Routes are those that the router itself put into the kernel's main table, of
// both families.
func (r *Router) Routes(t testing.TB) map[netip.Prefix]Route {
	t.Helper()
	protocol := map[kind]string{frr: "bgp", bird: "bird"}[r.kind]
	routes := make(map[netip.Prefix]Route)
	for _, family := range []string{"-4", "-6"} {
		var rows []kernelRoute
		out := r.NS.Run(t, "ip", "-j", family, "route", "show", "proto", protocol)
		if err := json.Unmarshal([]byte(out), &rows); err != nil {
			t.Fatalf("ip route: %v\n%s", err, out)
		}
		for _, row := range rows {
			if prefix, ok := parsePrefix(row.Dst, family); ok {
				hops := routes[prefix].NextHops
				routes[prefix] = Route{append(hops, row.nextHops()...)}
			}
		}
	}
	return routes
}

// kernelRoute is one route in the words of `ip -j route`.
type kernelRoute struct {
	Dst, Gateway, Dev string
	Via               struct{ Host string }
	Nexthops          []struct {
		Gateway, Dev string
		Via          struct{ Host string }
		Weight       int
	}
}

func (k kernelRoute) nextHops() []NextHop {
	hop := func(gateway, via, dev string, weight int) NextHop {
		if gateway == "" {
			gateway = via
		}
		addr, _ := netip.ParseAddr(gateway)
		return NextHop{addr, dev, weight}
	}
	if len(k.Nexthops) == 0 {
		return []NextHop{hop(k.Gateway, k.Via.Host, k.Dev, 1)}
	}
	var hops []NextHop
	for _, n := range k.Nexthops {
		hops = append(hops, hop(n.Gateway, n.Via.Host, n.Dev, n.Weight))
	}
	return hops
}

// parsePrefix reads a destination, which may be a plain address or "default".
func parsePrefix(s, family string) (netip.Prefix, bool) {
	if s == "default" {
		s = map[string]string{"-4": "0.0.0.0/0", "-6": "::/0"}[family]
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return p, true
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addr, addr.BitLen()), true
}

// await polls until a daemon answers, and ends the test with its log if it does
// not.
func (r *Router) await(t testing.TB, p *netns.Process, daemon string, answers func() bool) {
	t.Helper()
	for deadline := time.Now().Add(startTime); !answers(); time.Sleep(20 * time.Millisecond) {
		select {
		case <-p.Done():
			t.Fatalf("%s ended:\n%s", daemon, r.Log())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer:\n%s", daemon, r.Log())
		}
	}
}

func (r *Router) path(name string) string { return filepath.Join(r.dir, name) }

func (r *Router) write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(r.path(name), []byte(text+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// tempDir is short, unlike t.TempDir: sockets have paths of at most 107 bytes.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "router")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// need ends the test if a program is not installed.
func need(t testing.TB, binary, pkg string) {
	t.Helper()
	if _, err := exec.LookPath(binary); err != nil {
		t.Fatalf("the test needs %s of Debian's package %s; `make packages` installs it", binary, pkg)
	}
}
