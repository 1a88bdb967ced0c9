package lab

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// Families says which address families a lab has.
type Families string

// The address families a lab can be made of.
const (
	DualStack Families = "dual"
	IPv4Only  Families = "ipv4"
	IPv6Only  Families = "ipv6"
)

// V4 reports whether the lab has IPv4.
func (f Families) V4() bool { return f != IPv6Only }

// V6 reports whether the lab has IPv6.
func (f Families) V6() bool { return f != IPv4Only }

// Options says what lab to make. The zero value is a good lab: three nodes, one
// client, one flat dual-stack segment.
type Options struct {
	// Name tells labs apart that run side by side. Lower-case letters and digits;
	// default "demo".
	Name string
	// Nodes is the number of Kubernetes nodes, default 3.
	Nodes int
	// Clients is the number of machines that are not in the cluster, default 1.
	Clients int
	// Families defaults to DualStack.
	Families Families
	// Topology is the shape of the network, default Flat.
	Topology Topology
	// Segments are the L2 networks of a flat topology; default one, with everybody
	// on it. The first must have every node, because nodes reach each other's pods
	// over it. Other topologies have segments of their own.
	Segments []SegmentOptions
	// BGP says how the routers of a topology are set up.
	BGP BGPOptions
	// Images maps an image name as pods write it to the path of a local static
	// binary. What BuildImages built is known without being named.
	Images map[string]string
	// StateDir holds everything the lab writes; default $TMPDIR/herald-lab-NAME.
	// It is removed when the lab ends.
	StateDir string
	// LogDir is where the processes' logs go; default StateDir/logs. Logs in a
	// folder outside of StateDir outlive the lab.
	LogDir string
	// BinDir holds the binaries kube and lab; default: the module's bin folder.
	BinDir string
	// Life bounds the lab: it ends itself after that time. Default 2 hours.
	Life time.Duration
	// Detach lets the lab outlive the program that started it. Otherwise it ends
	// when that program does, however that ends.
	Detach bool
	// ExtraArgs adds flags to a program, by its name (such as "kube-apiserver").
	ExtraArgs map[string][]string
	// Progress receives a line for each step; nil discards them.
	Progress io.Writer `json:"-"`
}

// SegmentOptions is one flat L2 network.
type SegmentOptions struct {
	// Hosts are the nodes and clients with an interface on it; empty means all.
	Hosts []string
}

// BGPOptions says how the routers of a topology are set up at their first boot;
// Router.Configure changes it later. The zero value is a good setup: routers that
// take the nodes as neighbours, with BFD, without a password.
type BGPOptions struct {
	// NodeASN is the autonomous system of the nodes, default 64500.
	NodeASN uint32
	// Password is that of all sessions with nodes (TCP MD5), none by default.
	Password string `json:",omitempty"`
	// NoBFD leaves BFD out.
	NoBFD bool
	// Routers changes routers of the topology, by name.
	Routers map[string]RouterOptions
}

// RouterOptions changes a router of a topology.
type RouterOptions struct {
	// Kind makes it FRR or BIRD; the topology says which by default.
	Kind RouterKind
	// ASN is its autonomous system. That of the nodes makes it an iBGP neighbour.
	ASN uint32
	// Config is its whole configuration, in its daemon's language, instead of what
	// RouterText writes.
	Config string
}

var nameRE = regexp.MustCompile(`^[a-z][a-z0-9]{0,15}$`)

// Limits keep the address plan simple: a node is a byte in several addresses.
const (
	maxNodes    = 80
	maxClients  = 40
	maxSegments = 8
)

// complete fills in the defaults and checks the options.
func (o Options) complete() (Options, error) {
	o.Name = or(o.Name, "demo")
	if o.Topology == V6Only {
		o.Families = or(o.Families, IPv6Only)
	}
	o.Families = or(o.Families, DualStack)
	o.Life = or(o.Life, 2*time.Hour)
	o.Nodes = or(o.Nodes, 3)
	o.Clients = or(o.Clients, 1)
	o.StateDir = or(o.StateDir, DefaultStateDir(o.Name))
	o.LogDir = or(o.LogDir, filepath.Join(o.StateDir, "logs"))
	o.Topology = or(o.Topology, Flat)
	o.BGP.NodeASN = or(o.BGP.NodeASN, DefaultNodeASN)
	if o.Topology == Flat && len(o.Segments) == 0 {
		o.Segments = []SegmentOptions{{}}
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	switch {
	case !nameRE.MatchString(o.Name):
		return o, fmt.Errorf("lab name %q: want at most 16 lower-case letters and digits, a letter first", o.Name)
	case o.Nodes < 1 || o.Nodes > maxNodes:
		return o, fmt.Errorf("lab nodes: %d, want 1 to %d", o.Nodes, maxNodes)
	case o.Clients < 0 || o.Clients > maxClients:
		return o, fmt.Errorf("lab clients: %d, want at most %d", o.Clients, maxClients)
	case len(o.Segments) > maxSegments:
		return o, fmt.Errorf("lab segments: %d, want at most %d", len(o.Segments), maxSegments)
	case !slices.Contains([]Families{DualStack, IPv4Only, IPv6Only}, o.Families):
		return o, fmt.Errorf("lab families: %q, want dual, ipv4 or ipv6", o.Families)
	case o.Life < 0:
		return o, fmt.Errorf("lab life: %s, want a positive duration", o.Life)
	}
	for _, dir := range []*string{&o.StateDir, &o.LogDir} {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return o, fmt.Errorf("lab folder %s: %w", *dir, err)
		}
		*dir = abs
	}
	if err := o.checkTopology(); err != nil {
		return o, err
	}
	for name, image := range o.Images {
		if err := checkImage(name, image); err != nil {
			return o, err
		}
	}
	return o, nil
}

// checkTopology finds options that contradict the topology.
func (o Options) checkTopology() error {
	switch {
	case !slices.Contains(Topologies(), o.Topology):
		return fmt.Errorf("lab topology: %q, want one of %v", o.Topology, Topologies())
	case o.Topology != Flat && len(o.Segments) > 0:
		return fmt.Errorf("lab segments: the topology %s lays out its own, want none", o.Topology)
	case o.Topology == Racks && o.Nodes < 2:
		return fmt.Errorf("lab nodes: %d, want at least one for each of the two racks", o.Nodes)
	case o.Topology == V6Only && !o.Families.V6():
		return fmt.Errorf("lab families: %q, want ipv6 or dual with a router that speaks only IPv6", o.Families)
	}
	for _, r := range o.blueprint().routers {
		// sockaddr_un of unix(7): 107 characters and a zero.
		if path := filepath.Join(RouterDir(o.StateDir, r.name), "zserv.api"); len(path) > 107 {
			return fmt.Errorf("lab folder %s: %s in it is longer than a socket's path may be (107 characters)", o.StateDir, path)
		}
	}
	for name, r := range o.BGP.Routers {
		if r.Kind != "" && r.Kind != FRR && r.Kind != BIRD {
			return fmt.Errorf("lab router %s: kind %q, want frr or bird", name, r.Kind)
		}
		if o.Topology == Multihop && r.Kind == BIRD {
			return fmt.Errorf("lab router %s: kind bird, want frr: the topology multihop needs a reflector that passes on all paths and its client", name)
		}
	}
	return nil
}

// DefaultStateDir is where the lab of a name keeps its state unless told otherwise.
func DefaultStateDir(name string) string {
	return filepath.Join(os.TempDir(), "herald-lab-"+name)
}

// or returns v, or the default when v is zero.
func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
