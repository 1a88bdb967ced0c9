package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// RunningRouter is a router of a lab that runs.
type RunningRouter struct {
	Router
	cluster *Cluster
	dir     string
}

// Router finds a router of the lab.
func (c *Cluster) Router(name string) (*RunningRouter, error) {
	r, err := c.State.Layout.Router(name)
	if err != nil {
		return nil, err
	}
	return &RunningRouter{Router: r, cluster: c, dir: RouterDir(c.State.Options.StateDir, name)}, nil
}

// Routers are all routers of the lab.
func (c *Cluster) Routers() []*RunningRouter {
	var out []*RunningRouter
	for _, r := range c.State.Layout.Routers {
		out = append(out, &RunningRouter{Router: r, cluster: c, dir: RouterDir(c.State.Options.StateDir, r.Name)})
	}
	return out
}

// Vtysh gives an FRR router commands, one after another in one session, and
// returns what it prints: Vtysh(ctx, "configure terminal", "router bgp 64601",
// "neighbor nodes password s3cret").
func (r *RunningRouter) Vtysh(ctx context.Context, commands ...string) (string, error) {
	if r.Kind != FRR {
		return "", fmt.Errorf("router %s runs %s, which has no vtysh", r.Name, r.Kind)
	}
	argv := []string{"vtysh"}
	for _, c := range commands {
		argv = append(argv, "-c", c)
	}
	return r.cluster.Exec(ctx, r.Name, argv...)
}

// VtyshJSON decodes what an FRR router prints for a command that ends in "json".
func (r *RunningRouter) VtyshJSON(ctx context.Context, command string, into any) error {
	text, err := r.Vtysh(ctx, command)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return fmt.Errorf("on %s: %s: %w: %.200s", r.Name, command, err, text)
	}
	return nil
}

// Birdc gives a BIRD router a command and returns what it prints.
func (r *RunningRouter) Birdc(ctx context.Context, command string) (string, error) {
	if r.Kind != BIRD {
		return "", fmt.Errorf("router %s runs %s, which has no birdc", r.Name, r.Kind)
	}
	return r.cluster.Exec(ctx, r.Name, append([]string{"birdc"}, strings.Fields(command)...)...)
}

// Config is the configuration that the router was last given as a whole.
func (r *RunningRouter) Config() (string, error) {
	raw, err := os.ReadFile(StartupConfig(r.dir))
	if err != nil {
		return "", fmt.Errorf("read the configuration of %s: %w", r.Name, err)
	}
	return string(raw), nil
}

// Configure gives the router a whole configuration, in its daemon's language: what
// differs is changed, and sessions that it does not concern stay up. The router
// also boots with it from now on, unless this fails.
func (r *RunningRouter) Configure(ctx context.Context, text string) error {
	before, err := r.Config()
	if err != nil {
		return err
	}
	startup := StartupConfig(r.dir)
	if err := os.WriteFile(startup, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write the configuration of %s: %w", r.Name, err)
	}
	if err := r.reload(ctx, startup); err != nil {
		return errors.Join(err, os.WriteFile(startup, []byte(before), 0o644))
	}
	return nil
}

// reload has the router's daemons take a whole configuration.
func (r *RunningRouter) reload(ctx context.Context, startup string) error {
	if r.Kind == BIRD {
		if out, err := r.Birdc(ctx, "configure"); err != nil || !strings.Contains(out, "Reconfigur") {
			return errors.Join(fmt.Errorf("configure %s: %s", r.Name, strings.TrimSpace(out)), err)
		}
		return nil
	}
	own := filepath.Join(r.dir, "reload") // frr-reload.py wants a folder of its own for its files
	if err := os.MkdirAll(own, 0o755); err != nil {
		return fmt.Errorf("configure %s: %w", r.Name, err)
	}
	out, err := r.cluster.Exec(ctx, r.Name, "python3", "/usr/lib/frr/frr-reload.py", "--reload", "--stdout",
		"--bindir", "/usr/bin", "--confdir", own, "--rundir", own, "--vty_socket", r.dir, startup)
	if err != nil {
		return fmt.Errorf("configure %s: %w: %s", r.Name, err, out)
	}
	_, err = r.Vtysh(ctx, "write")
	return err
}

// NextHop is one way of a kernel route.
type NextHop struct {
	Gateway netip.Addr // the zero address for what is on the link
	Dev     string
	Weight  int
	// Host is whose address the gateway is, a node's for example; "" if nobody's.
	Host string
}

// Routes returns the next hops that the router's kernel has for exactly this
// prefix, sorted; none if it has no such route.
func (r *RunningRouter) Routes(ctx context.Context, prefix netip.Prefix) ([]NextHop, error) {
	return r.cluster.Routes(ctx, r.Name, prefix)
}

// Routes returns the next hops that a host's kernel has for exactly this prefix,
// sorted; none if it has no such route.
func (c *Cluster) Routes(ctx context.Context, host string, prefix netip.Prefix) ([]NextHop, error) {
	family := "-4"
	if prefix.Addr().Is6() {
		family = "-6"
	}
	text, err := c.Exec(ctx, host, "ip", family, "-j", "route", "show", "exact", prefix.String())
	if err != nil {
		return nil, err
	}
	hops, err := parseRoutes(text)
	if err != nil {
		return nil, fmt.Errorf("routes of %s for %s: %w", host, prefix, err)
	}
	for i := range hops {
		if h, ok := c.State.Layout.HostWith(hops[i].Gateway); ok {
			hops[i].Host = h.Name
		}
	}
	return hops, nil
}

// routeJSON is a route, or a next hop of one, as "ip -j route" prints it.
type routeJSON struct {
	Gateway string
	Via     struct{ Host string } // a gateway of the other family
	Dev     string
	Weight  int
	// NextHops is missing when there is one, which then is the route's own.
	NextHops []routeJSON
}

// parseRoutes reads what "ip -j route" prints.
func parseRoutes(text string) ([]NextHop, error) {
	var routes []routeJSON
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(text), &routes); err != nil {
		return nil, fmt.Errorf("read %q: %w", text, err)
	}
	var out []NextHop
	for _, route := range routes {
		ways := route.NextHops
		if len(ways) == 0 {
			ways = []routeJSON{route}
		}
		for _, w := range ways {
			hop := NextHop{Dev: w.Dev, Weight: max(w.Weight, 1)}
			if via := or(w.Gateway, w.Via.Host); via != "" {
				a, err := netip.ParseAddr(via)
				if err != nil {
					return nil, err
				}
				hop.Gateway = a
			}
			out = append(out, hop)
		}
	}
	slices.SortFunc(out, func(a, b NextHop) int { return a.Gateway.Compare(b.Gateway) })
	return out, nil
}

// HostWith finds the machine that has an address on a segment, also a link-local
// one, which follows from its MAC.
func (l Layout) HostWith(addr netip.Addr) (Host, bool) {
	for _, h := range l.Hosts() {
		for _, i := range h.Interfaces {
			if slices.Contains(i.Addrs(), addr) || i.LinkLocal() == addr.WithZone("") {
				return h, true
			}
		}
	}
	return Host{}, false
}

// LinkLocal is the interface's IPv6 link-local address, without a zone.
func (i Interface) LinkLocal() netip.Addr {
	mac, err := net.ParseMAC(i.MAC)
	if err != nil || len(mac) != 6 {
		return netip.Addr{}
	}
	// RFC 4291 appendix A: the MAC with the universal bit turned, around ff:fe.
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
}

// Kill sends SIGKILL to a daemon of the router, which is started again.
func (r *RunningRouter) Kill(ctx context.Context, daemon string) error {
	return r.cluster.Kill(ctx, r.Name, daemon)
}

// Stop stops a daemon of the router for good, or until Start.
func (r *RunningRouter) Stop(ctx context.Context, daemon string) error {
	return r.cluster.StopProgram(ctx, r.Name, daemon)
}

// Start starts a daemon that Stop stopped.
func (r *RunningRouter) Start(ctx context.Context, daemon string) error {
	return r.cluster.StartProgram(ctx, r.Name, daemon)
}

// PowerOff takes the router's power: its links are cut, its daemons frozen.
func (r *RunningRouter) PowerOff(ctx context.Context) error { return r.cluster.PowerOff(ctx, r.Name) }

// PowerOn boots the router with the configuration it was last given as a whole.
func (r *RunningRouter) PowerOn(ctx context.Context) error { return r.cluster.PowerOn(ctx, r.Name) }

// RouterDir is where a router's files are.
func RouterDir(stateDir, router string) string { return filepath.Join(stateDir, "routers", router) }

// StartupConfig is the file with a router's whole configuration.
func StartupConfig(routerDir string) string { return filepath.Join(routerDir, "startup.conf") }

// BIRDControl is the control socket of a BIRD router.
func BIRDControl(routerDir string) string { return filepath.Join(routerDir, "bird.ctl") }

// FindTool finds a program that a Debian package brings, also when the user's
// path lacks the administrator's folders.
func FindTool(name, debianPackage string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	path := filepath.Join("/usr/sbin", name)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s is missing: install the Debian package %s", name, debianPackage)
	}
	return path, nil
}
