// Package supervisor is the process that holds a lab: it builds the network,
// starts the control plane, the nodes and the routers, makes faults on request, and takes
// everything away at its end, whatever ended it.
//
// It is called by the lab command and talks to package lab, the side that users
// and tests see, over a socket. It knows no product: what runs in pods is between
// the API server and the node agents.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/heraldlb/herald/e2etest/lab"
	"github.com/heraldlb/herald/e2etest/lab/controlplane"
	"github.com/heraldlb/herald/e2etest/lab/nsnet"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
)

// startTimeout bounds the start of a lab.
const startTimeout = 2 * time.Minute

// Supervisor holds one lab.
type Supervisor struct {
	state    lab.State
	progress io.Writer
	started  time.Time
	ends     time.Time // when its life is over

	control net.Listener // its abstract name is also the lock on the lab's name
	front   net.Listener // the API server, as seen from the machine itself

	cpNet     *nsnet.Namespace
	switchNet *nsnet.Namespace
	clients   []*nsnet.Namespace
	cp        *controlplane.ControlPlane
	client    kubernetes.Interface

	mu          sync.Mutex // faults come one at a time
	nodes       map[string]*node
	routers     map[string]*router
	partitioned []string
}

// Run makes a lab and holds it until ctx ends or its life is over. progress gets a
// line for each step and, once the lab is up, lab.ReadyLine as its last.
func Run(ctx context.Context, o lab.Options, progress io.Writer) (err error) {
	s := &Supervisor{progress: progress, started: time.Now(), nodes: map[string]*node{}, routers: map[string]*router{}}
	if s.control, err = net.Listen("unix", lab.ControlAddress(o.Name)); err != nil {
		return fmt.Errorf("a lab named %s is already running (lab down --name %s ends it): %w", o.Name, o.Name, err)
	}
	defer s.control.Close()
	if err := lab.Sweep(o.Name, o.StateDir); err != nil {
		return fmt.Errorf("sweep what is left of an earlier lab %s: %w", o.Name, err)
	}
	if s.state, err = lab.Prepare(o); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.tearDown()) }()

	if err := s.up(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.state.Options.Life)
	defer cancel()
	s.ends = time.Now().Add(s.state.Options.Life)
	s.say("%s", lab.ReadyLine)
	s.serve(ctx)
	return nil
}

// up builds everything, in the order in which it depends on each other.
func (s *Supervisor) up(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := s.buildNetwork(); err != nil {
		return err
	}
	s.say("network: %d nodes and %d clients on %d segment(s)", len(s.state.Layout.Nodes), len(s.state.Layout.Clients), len(s.state.Layout.Segments))
	var group errgroup.Group
	for _, r := range s.routers {
		group.Go(func() error { return s.bootRouter(ctx, r) })
	}
	if err := s.startControlPlane(ctx); err != nil {
		cancel()
		return errors.Join(err, group.Wait())
	}
	s.say("control plane: API server ready")
	for _, n := range s.nodes {
		group.Go(func() error { return s.bootNode(ctx, n) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	s.say("nodes: all Ready, kube-proxy in sync")
	if n := len(s.routers); n > 0 {
		s.say("routers: %d (%s), configured", n, s.state.Options.Topology)
	}
	return nil
}

func (s *Supervisor) startControlPlane(ctx context.Context) error {
	l, o := s.state.Layout, s.state.Options
	// The unspecified address of the first family's kind: "::" takes both.
	bind := lab.Unspecified(o.Families)
	cp, err := controlplane.New(controlplane.Config{
		Kube: filepath.Join(o.BinDir, "kube"), Dir: filepath.Join(o.StateDir, "cp"), LogDir: o.LogDir, Place: s.cpNet,
		Bind: bind, Advertise: l.APIServer(), EtcdPort: 2379, EtcdPeer: 2380,
		Names: l.ControlPlane.Mgmt.Addrs(), ServiceCIDRs: l.ServiceCIDRs, PodCIDRs: l.PodCIDRs,
		Controllers: true, ExtraArgs: o.ExtraArgs,
	})
	if err != nil {
		return err
	}
	s.cp = cp
	if s.front, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return fmt.Errorf("open a port for the API server on the machine: %w", err)
	}
	go s.forward(s.front)
	if err := cp.Authority.Kubeconfig(s.state.Kubeconfig, "https://"+s.front.Addr().String(), cp.Admin); err != nil {
		return err
	}
	if err := cp.Start(ctx); err != nil {
		return err
	}
	if s.client, err = kubernetes.NewForConfig(cp.RESTConfig()); err != nil {
		return fmt.Errorf("make a client of the API server: %w", err)
	}
	return cp.Bootstrap(ctx, s.client)
}

// forward carries connections from the machine's loopback to the API server in
// its namespace, so that kubectl and tests need not enter it. It ends when the
// listener is closed.
func (s *Supervisor) forward(front net.Listener) {
	for {
		in, err := front.Accept()
		if err != nil {
			return
		}
		go func() {
			defer in.Close()
			out, err := s.cp.Dial(context.Background(), "tcp", s.state.Layout.APIServer().String())
			if err != nil {
				return // the caller sees its connection closed, as with a dead server
			}
			defer out.Close()
			go func() {
				_, _ = io.Copy(out, in)
				// The end of either direction ends both.
				out.Close()
				in.Close()
			}()
			_, _ = io.Copy(in, out)
		}()
	}
}

// tearDown ends every program and removes every trace.
func (s *Supervisor) tearDown() error {
	if s.front != nil {
		s.front.Close()
	}
	if s.cp != nil {
		s.cp.Stop()
	}
	for _, n := range s.nodes {
		n.stop()
	}
	for _, r := range s.routers {
		r.stop()
	}
	err := lab.Sweep(s.state.Options.Name, s.state.Options.StateDir)
	for _, ns := range append(s.clients, s.cpNet, s.switchNet) {
		if ns != nil {
			ns.Close()
		}
	}
	return err
}

// say writes a line of progress with the time since the start.
func (s *Supervisor) say(format string, args ...any) {
	fmt.Fprintf(s.progress, "lab %s: %5.1fs  %s\n", s.state.Options.Name, time.Since(s.started).Seconds(), fmt.Sprintf(format, args...))
}
