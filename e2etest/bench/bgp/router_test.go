//go:build lab

package bgp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/heraldlb/herald/e2etest/lab"
	"github.com/heraldlb/herald/e2etest/lab/nsnet"
	"github.com/heraldlb/herald/e2etest/lab/process"
)

// Everybody is in one subnet: the node, and the routers from .101 on.
var nodeAddr = netip.MustParsePrefix("192.0.2.10/24")

const (
	nodeASN   = 64512
	routerASN = 64600
)

// settings are those of every machine.
var settings = map[string]string{
	"net.ipv4.ip_forward":             "1",
	"net.ipv4.conf.all.rp_filter":     "0",
	"net.ipv4.conf.default.rp_filter": "0",
}

// A router is FRR or BIRD in a namespace of its own.
type router struct {
	name string
	addr netip.Prefix
	port string // its port of the switch
	net  *nsnet.Namespace
	dir  string
	bird bool
	// running are its daemons.
	running []*process.Process
	kernel  *kernelTable
}

// neighbor says how a router meets the node.
type neighbor struct {
	bird     bool
	bfd      time.Duration // the interval; 0 for none
	password string
}

// plug wires a machine to the switch.
func (r *rig) plug(ns *nsnet.Namespace, dev, port string, addr netip.Prefix) {
	r.Helper()
	r.must(nsnet.Wire(nsnet.End{Namespace: ns, Name: dev}, nsnet.End{Namespace: r.switches, Name: port, Bridge: "lan"}))
	r.must(ns.Address(dev, addr))
}

// addRouters starts routers, numbered on from those that are there.
func (r *rig) addRouters(all ...neighbor) []*router {
	r.Helper()
	start := time.Now()
	first := len(r.routers)
	for range all {
		r.routers = append(r.routers, r.wireRouter(len(r.routers)+1))
	}
	added := r.routers[first:]
	group, ctx := errgroup.WithContext(r.ctx)
	group.SetLimit(4)
	for i, n := range added {
		n.bird = all[i].bird
		group.Go(func() error { return n.boot(ctx, all[i]) })
	}
	r.must(group.Wait())
	r.step("started %d routers in %.1f s", len(all), time.Since(start).Seconds())
	return added
}

// wireRouter makes the machine of a router.
func (r *rig) wireRouter(i int) *router {
	r.Helper()
	n := &router{name: fmt.Sprintf("r%d", i), port: fmt.Sprintf("port%d", i)}
	n.addr = netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + i)}), 24)
	n.dir = filepath.Join(r.dir, fmt.Sprintf("%s-%d", n.name, time.Now().UnixNano()))
	var err error
	n.net, err = nsnet.Create(n.name)
	r.must(err)
	r.Cleanup(func() {
		for _, p := range n.running {
			p.Stop(0)
		}
		_ = r.switches.Unplug(n.port)
		n.net.Close()
		_ = nsnet.Delete(n.name)
		_ = os.RemoveAll(n.dir)
	})
	r.must(n.net.Do(func() error { return exec.Command("ip", "link", "set", "lo", "up").Run() }))
	r.must(n.net.Sysctl(settings))
	r.plug(n.net, "eth0", n.port, n.addr)
	n.kernel = r.watchKernel(n)
	return n
}

// boot starts the daemons and returns when they have their configuration.
func (n *router) boot(ctx context.Context, how neighbor) error {
	if err := os.MkdirAll(n.dir, 0o755); err != nil {
		return fmt.Errorf("make the folder of %s: %w", n.name, err)
	}
	if n.bird {
		return n.bootBIRD(ctx, how)
	}
	u, err := user.Lookup("frr")
	if err != nil {
		return fmt.Errorf("FRR's user is missing: install the Debian package frr: %w", err)
	}
	uid, _ := strconv.Atoi(u.Uid) // numbers on Linux, as package user says
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Chown(n.dir, uid, gid); err != nil {
		return fmt.Errorf("give FRR its folder: %w", err)
	}
	for _, daemon := range []string{"zebra", "bfdd", "bgpd"} {
		args := []string{
			"--vty_socket", n.dir, "-z", n.path("zserv.api"), "-i", n.path(daemon + ".pid"), "-f", "/dev/null",
			"-A", "127.0.0.1", "-P", "0", "--log", "stdout", "--log-level", "informational",
		}
		if daemon == "bfdd" {
			args = append(args, "--bfdctl", n.path("bfdd.sock"))
		}
		ready := func() error {
			_, err := n.ask("-d", daemon, "-c", "show version")
			return err
		}
		if daemon != "zebra" {
			// One that is no client of zebra yet does not hear what it is told.
			ready = func() error {
				out, err := n.ask("-d", "zebra", "-c", "show zebra client summary")
				if err == nil && !strings.Contains(out, "\n"+strings.TrimSuffix(daemon, "d")+" ") {
					err = errors.New("it is no client of zebra")
				}
				return err
			}
		}
		if err := n.start(ctx, daemon, filepath.Join("/usr/lib/frr", daemon), args, ready); err != nil {
			return err
		}
	}
	if err := os.WriteFile(n.path("frr.conf"), []byte(n.frrText(how)), 0o644); err != nil {
		return fmt.Errorf("write the configuration of %s: %w", n.name, err)
	}
	if out, err := n.ask("-f", n.path("frr.conf")); err != nil || strings.Contains(out, "% ") {
		return fmt.Errorf("configure %s: %w: %s", n.name, err, out)
	}
	return nil
}

func (n *router) bootBIRD(ctx context.Context, how neighbor) error {
	bird, err := lab.FindTool("bird", "bird2")
	if err != nil {
		return err
	}
	if err := os.WriteFile(n.path("bird.conf"), []byte(n.birdText(how)), 0o644); err != nil {
		return fmt.Errorf("write the configuration of %s: %w", n.name, err)
	}
	return n.start(ctx, "bird", bird, []string{"-f", "-c", n.path("bird.conf"), "-s", n.path("bird.ctl")}, func() error {
		_, err := n.ask("show", "status")
		return err
	})
}

// start starts a daemon and waits until it is ready.
func (n *router) start(ctx context.Context, daemon, path string, args []string, ready func() error) error {
	p := process.New(n.net, process.Spec{Name: daemon, Path: path, Args: args, Log: n.path(daemon + ".log")})
	if err := p.Start(); err != nil {
		return err
	}
	n.running = append(n.running, p)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s of %s does not answer: %w; its log ends with:\n%s", daemon, n.name, err, p.Tail(2000))
		}
	}
}

// frrText is the configuration of FRR: it waits for the node and takes what it says.
func (n *router) frrText(how neighbor) string {
	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	node := nodeAddr.Addr()
	if how.bfd > 0 {
		line("bfd\n profile node\n  receive-interval %d\n  transmit-interval %[1]d\n exit\nexit", how.bfd.Milliseconds())
	}
	line("router bgp %d", routerASN)
	line(" bgp router-id %s", n.addr.Addr())
	line(" no bgp ebgp-requires-policy")
	line(" neighbor %s remote-as %d", node, nodeASN)
	line(" neighbor %s passive", node)
	if how.password != "" {
		line(" neighbor %s password %s", node, how.password)
	}
	if how.bfd > 0 {
		line(" neighbor %s bfd profile node", node)
	}
	line("exit")
	return out.String()
}

// birdText is the configuration of BIRD.
func (n *router) birdText(how neighbor) string {
	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	line("log stderr all;")
	line("router id %s;", n.addr.Addr())
	line("protocol device {}")
	line("protocol kernel { ipv4 { import none; export all; }; }")
	bfd := ""
	if how.bfd > 0 {
		line("protocol bfd { interface \"*\" { interval %d ms; multiplier 3; idle tx interval 1 s; }; }", how.bfd.Milliseconds())
		bfd = " bfd on;"
	}
	line("protocol bgp node {")
	line("  debug { states, events };")
	line("  local %s as %d; neighbor %s as %d; direct; passive on;%s", n.addr.Addr(), routerASN, nodeAddr.Addr(), nodeASN, bfd)
	line("  error wait time 1, 1; startup hold time 30;")
	if how.password != "" {
		line("  password \"%s\";", how.password)
	}
	line("  ipv4 { import all; export none; };")
	line("}")
	return out.String()
}

// ask runs vtysh or birdc.
func (n *router) ask(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	program, connect := "vtysh", []string{"--vty_socket", n.dir}
	if n.bird {
		program, connect = "/usr/sbin/birdc", []string{"-s", n.path("bird.ctl")}
	}
	out, err := exec.CommandContext(ctx, program, append(connect, args...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

func (n *router) path(file string) string { return filepath.Join(n.dir, file) }

// sessions counts how often the node's session was established, in the router's
// own words, and whether it is now.
func (n *router) sessions() (count int, up bool, err error) {
	if n.bird {
		raw, err := os.ReadFile(n.path("bird.log"))
		if err != nil {
			return 0, false, fmt.Errorf("read the log of %s: %w", n.name, err)
		}
		out, err := n.ask("show", "protocols", "node")
		return len(established.FindAll(raw, -1)), strings.Contains(out, "Established"), err
	}
	out, err := n.ask("-c", "show bgp neighbors "+nodeAddr.Addr().String()+" json")
	if err != nil {
		return 0, false, err
	}
	var all map[string]struct {
		BGPState               string `json:"bgpState"`
		ConnectionsEstablished int    `json:"connectionsEstablished"`
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		return 0, false, fmt.Errorf("read what %s says: %w: %s", n.name, err, out)
	}
	s := all[nodeAddr.Addr().String()]
	return s.ConnectionsEstablished, s.BGPState == "Established", nil
}

var established = regexp.MustCompile(`(?m)node: BGP session established`)

// awaitUp waits until every router has its session.
func (r *rig) awaitUp(routers ...*router) {
	r.Helper()
	r.until("all sessions are up", 100*time.Millisecond, func() error {
		for _, n := range routers {
			if _, up, err := n.sessions(); err != nil || !up {
				return errors.Join(fmt.Errorf("%s has no session", n.name), err)
			}
		}
		return nil
	})
}
