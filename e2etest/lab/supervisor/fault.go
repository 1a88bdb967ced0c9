package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/heraldlb/herald/e2etest/lab"
	"github.com/heraldlb/herald/e2etest/lab/nsnet"
)

// powerOff cuts a machine's links and freezes its processes. The links go first:
// from then on not a single frame of it reaches anybody, which is what the loss of
// power looks like from outside.
func (s *Supervisor) powerOff(_ context.Context, m *machine) (string, error) {
	if !m.on {
		return "", fmt.Errorf("%s is off already", m.host.Name)
	}
	m.on = false
	if err := s.cut(m, false); err != nil {
		return "", err
	}
	at := time.Now()
	if err := nsnet.Freeze(m.owns); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s has no power since %s", m.host.Name, at.Format("15:04:05.000")), nil
}

// powerOn boots a machine that was powered off: what ran there is lost.
func (s *Supervisor) powerOn(ctx context.Context, m *machine) (string, error) {
	if m.on {
		return "", fmt.Errorf("%s is on already", m.host.Name)
	}
	m.stop()
	if err := nsnet.Clear(m.owns); err != nil {
		return "", err
	}
	// The kernel removes wires some time after a namespace; the new ones have the
	// same names, so remove them now.
	for _, i := range m.host.Interfaces {
		if err := s.switchNet.Unplug(i.Port); err != nil {
			return "", err
		}
	}
	if m.host.Mgmt != nil {
		if err := s.cpNet.Unplug(m.host.Mgmt.Port); err != nil {
			return "", err
		}
	}
	if err := m.build(); err != nil {
		return "", err
	}
	if err := s.place(m.host); err != nil {
		return "", err
	}
	m.on = true
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := m.boot(ctx); err != nil {
		return "", err
	}
	return m.host.Name + " has booted and is ready", nil
}

// pause cuts a machine off and freezes it like powerOff; resume lets it go on
// where it was, believing what it believed then, like a virtual machine after a
// stall.
func (s *Supervisor) pause(ctx context.Context, m *machine) (string, error) {
	return s.powerOff(ctx, m)
}

func (s *Supervisor) resume(_ context.Context, m *machine) (string, error) {
	if m.on {
		return "", fmt.Errorf("%s is not paused", m.host.Name)
	}
	m.on = true
	if err := s.cut(m, true); err != nil {
		return "", err
	}
	return m.host.Name + " goes on", nsnet.Thaw(m.owns)
}

// cut sets all wires of a machine, the management network's included.
func (s *Supervisor) cut(m *machine, up bool) error {
	var errs []error
	for _, i := range m.host.Interfaces {
		errs = append(errs, s.switchNet.SetLink(i.Port, up))
	}
	if m.host.Mgmt != nil {
		errs = append(errs, s.cpNet.SetLink(m.host.Mgmt.Port, up))
	}
	return errors.Join(errs...)
}

// link pulls or plugs a host's cables at the switch: the host loses its carrier.
// The management network stays.
func (s *Supervisor) link(up bool) func(context.Context, []string) (string, error) {
	return func(_ context.Context, args []string) (string, error) {
		h, err := s.state.Layout.Host(args[0])
		if err != nil {
			return "", err
		}
		var done []string
		for _, i := range h.Interfaces {
			if len(args) > 1 && args[1] != i.Name {
				continue
			}
			if err := s.switchNet.SetLink(i.Port, up); err != nil {
				return "", err
			}
			done = append(done, i.Name)
		}
		if len(done) == 0 {
			return "", fmt.Errorf("%s has no interface %s on a segment", h.Name, strings.Join(args[1:], " "))
		}
		return fmt.Sprintf("%s: %s %s", h.Name, strings.Join(done, ", "), map[bool]string{true: "up", false: "down"}[up]), nil
	}
}

// partition splits every segment in two: the named hosts, and all others. Carrier
// stays everywhere, and so does the management network.
func (s *Supervisor) partition(_ context.Context, args []string) (string, error) {
	for _, name := range args {
		if h, err := s.state.Layout.Host(name); err != nil {
			return "", err
		} else if len(h.Interfaces) == 0 {
			return "", fmt.Errorf("%s is on no segment", name)
		}
	}
	s.partitioned = nil
	for _, name := range args {
		h, _ := s.state.Layout.Host(name) // found above
		s.partitioned = append(s.partitioned, h.Name)
	}
	if err := s.placeAll(); err != nil {
		return "", err
	}
	return strings.Join(s.partitioned, ", ") + " and the others do not hear each other", nil
}

// heal ends a partition.
func (s *Supervisor) heal(context.Context, []string) (string, error) {
	s.partitioned = nil
	return "the segments are whole", s.placeAll()
}

func (s *Supervisor) placeAll() error {
	for _, h := range s.state.Layout.Hosts() {
		if err := s.place(h); err != nil {
			return err
		}
	}
	return nil
}

// place puts a host's ports on the side of the partition where they belong.
func (s *Supervisor) place(h lab.Host) error {
	for _, i := range h.Interfaces {
		bridge := s.state.Layout.Segments[i.Segment].Bridge
		if slices.Contains(s.partitioned, h.Name) {
			bridge = otherSide(bridge)
		}
		if err := s.switchNet.Attach(i.Port, bridge); err != nil {
			return err
		}
	}
	return nil
}

// kill sends SIGKILL to a program on a host, in whatever pod it runs. Who started
// it starts it again.
func (s *Supervisor) kill(_ context.Context, args []string) (string, error) {
	h, err := s.state.Layout.Host(args[0])
	if err != nil {
		return "", err
	}
	on := machine{host: h}
	killed, err := nsnet.Kill(on.owns, args[1])
	if err != nil {
		return "", err
	}
	if len(killed) == 0 {
		return "", fmt.Errorf("no program %q runs on %s", args[1], h.Name)
	}
	var pids []string
	for _, p := range killed {
		pids = append(pids, fmt.Sprint(p.PID))
	}
	return fmt.Sprintf("killed %s on %s (pid %s)", args[1], h.Name, strings.Join(pids, ", ")), nil
}

// program stops a program of the control plane ("cp"), of a node or of a router
// for good, or starts it again.
func (s *Supervisor) program(start bool) func(context.Context, []string) (string, error) {
	return func(ctx context.Context, args []string) (string, error) {
		p, err := s.find(args[0], args[1])
		if err != nil {
			return "", err
		}
		if !start {
			p.Stop(0)
			return args[1] + " stopped", nil
		}
		if err := p.Start(); err != nil {
			return "", err
		}
		if args[1] == "kube-apiserver" {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			return args[1] + " ready", s.cp.WaitReady(ctx)
		}
		return args[1] + " started", nil
	}
}

// status says how every host is.
func (s *Supervisor) status(context.Context, []string) (string, error) {
	var out strings.Builder
	l := s.state.Layout
	fmt.Fprintf(&out, "lab %s, up %s, ends by itself in %s\n", l.Name, time.Since(s.started).Round(time.Second),
		time.Until(s.ends).Round(time.Second))
	fmt.Fprintf(&out, "kubeconfig %s\nlogs       %s\n", s.state.Kubeconfig, s.state.Options.LogDir)
	line := func(h lab.Host, note string) {
		var addrs []string
		for _, i := range h.Interfaces {
			for _, p := range i.Prefixes {
				addrs = append(addrs, i.Name+" "+p.Addr().String())
			}
		}
		if slices.Contains(s.partitioned, h.Name) {
			note += ", other side of the partition"
		}
		fmt.Fprintf(&out, "%-8s %-24s %-15s %s\n", h.Name, h.Namespace, note, strings.Join(addrs, "  "))
	}
	line(l.ControlPlane, "api "+l.APIServer().String())
	for _, h := range l.Nodes {
		line(h, map[bool]string{true: "on", false: "off"}[s.nodes[h.Name].on])
	}
	for _, h := range l.Clients {
		line(h, "client")
	}
	for _, r := range l.Routers {
		line(r.Host, fmt.Sprintf("%s AS%d %s", r.Kind, r.ASN, map[bool]string{true: "on", false: "off"}[s.routers[r.Name].on]))
	}
	return out.String(), nil
}
