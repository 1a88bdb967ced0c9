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

// powerOff cuts a node's links and freezes its processes. The links go first: from
// then on not a single frame of the node reaches anybody, which is what the loss
// of power looks like from outside.
func (s *Supervisor) powerOff(_ context.Context, n *node) (string, error) {
	if !n.on {
		return "", fmt.Errorf("%s is off already", n.host.Name)
	}
	n.on = false
	if err := s.cut(n, false); err != nil {
		return "", err
	}
	at := time.Now()
	if err := nsnet.Freeze(n.owns); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s has no power since %s", n.host.Name, at.Format("15:04:05.000")), nil
}

// powerOn boots a node that was powered off: what ran there is lost.
func (s *Supervisor) powerOn(ctx context.Context, n *node) (string, error) {
	if n.on {
		return "", fmt.Errorf("%s is on already", n.host.Name)
	}
	n.stop()
	if err := nsnet.Clear(n.owns); err != nil {
		return "", err
	}
	// The kernel removes wires some time after a namespace; the new ones have the
	// same names, so remove them now.
	for _, i := range n.host.Interfaces {
		if err := s.switchNet.Unplug(i.Port); err != nil {
			return "", err
		}
	}
	if err := s.cpNet.Unplug(n.host.Mgmt.Port); err != nil {
		return "", err
	}
	if err := s.buildNode(n); err != nil {
		return "", err
	}
	if err := s.place(n.host); err != nil {
		return "", err
	}
	n.on = true
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := s.bootNode(ctx, n); err != nil {
		return "", err
	}
	return n.host.Name + " has booted and is Ready", nil
}

// pause cuts a node off and freezes it like powerOff; resume lets it go on where
// it was, believing what it believed then, like a virtual machine after a stall.
func (s *Supervisor) pause(ctx context.Context, n *node) (string, error) { return s.powerOff(ctx, n) }

func (s *Supervisor) resume(_ context.Context, n *node) (string, error) {
	if n.on {
		return "", fmt.Errorf("%s is not paused", n.host.Name)
	}
	n.on = true
	if err := s.cut(n, true); err != nil {
		return "", err
	}
	return n.host.Name + " goes on", nsnet.Thaw(n.owns)
}

// owns reports whether a network namespace is the node's or one of its pods'.
func (n *node) owns(namespace string) bool {
	return namespace == n.host.Namespace || strings.HasPrefix(namespace, n.host.Namespace+"-")
}

// cut sets all wires of a node, the management network's included.
func (s *Supervisor) cut(n *node, up bool) error {
	var errs []error
	for _, i := range n.host.Interfaces {
		errs = append(errs, s.switchNet.SetLink(i.Port, up))
	}
	return errors.Join(append(errs, s.cpNet.SetLink(n.host.Mgmt.Port, up))...)
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
	for _, h := range slices.Concat(s.state.Layout.Nodes, s.state.Layout.Clients) {
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
	machine := node{host: h}
	killed, err := nsnet.Kill(machine.owns, args[1])
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

// program stops a program of the control plane ("cp") or of a node for good, or
// starts it again.
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
		fmt.Fprintf(&out, "%-8s %-24s %-10s %s\n", h.Name, h.Namespace, note, strings.Join(addrs, "  "))
	}
	line(l.ControlPlane, "api "+l.APIServer().String())
	for _, h := range l.Nodes {
		line(h, map[bool]string{true: "on", false: "off"}[s.nodes[h.Name].on])
	}
	for _, h := range l.Clients {
		line(h, "client")
	}
	return out.String(), nil
}
