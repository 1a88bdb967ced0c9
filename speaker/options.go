package main

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/heraldlb/herald/internal/manager"
	"github.com/heraldlb/herald/speaker/membership"
)

// options are the speaker's flags. The names and the variables of the
// environment are MetalLB's, so that its manifests start Herald.
type options struct {
	process manager.Process

	node, pod     string
	class         string
	ignoreExclude bool
	refresh       time.Duration
	excludeFile   string

	// ring is false when membership is switched off.
	ring       bool
	bind       netip.Addr
	port       int
	peers      labels.Selector
	secretDir  string
	wan        bool
	tuningFile string

	// warnings are flags that were given and have no effect.
	warnings []string
}

// ignoredFlags belong to what MetalLB needs FRR for.
var ignoredFlags = []manager.Ignored{
	{Name: "host", Why: "MetalLB does not use it either"},
	{Name: "bgp-debounce-timeout", Why: "there is no FRR to configure"},
	{Name: "frrk8s-namespace", Why: "there is no frr-k8s"},
	{Name: "frrk8s-secret-passthrough", Bool: true, Why: "there is no frr-k8s"},
}

// parseOptions reads and checks everything before anything starts.
func parseOptions(args []string, getenv func(string) string) (options, error) {
	var o options
	var bind, port, peers string
	fs := flag.NewFlagSet("speaker", flag.ContinueOnError)
	o.process.AddFlags(fs, getenv)
	fs.StringVar(&o.node, "node-name", getenv("METALLB_NODE_NAME"), "`name` of this node (env METALLB_NODE_NAME)")
	fs.StringVar(&o.pod, "pod-name", getenv("METALLB_POD_NAME"), "`name` of this pod, the owner of the status objects (env METALLB_POD_NAME)")
	fs.StringVar(&o.class, "lb-class", "", "load balancer `class` to serve (empty: Services without a class)")
	fs.BoolVar(&o.ignoreExclude, "ignore-exclude-lb", false,
		"let nodes with the label node.kubernetes.io/exclude-from-external-load-balancers take part")
	fs.DurationVar(&o.refresh, "l2-refresh-interval", 30*time.Second,
		"how often each address is announced again while nothing changes; 0 turns that off")
	fs.StringVar(&o.excludeFile, "exclude-interfaces-file", "/etc/metallb/excludel2.yaml",
		"`file` with patterns of interfaces that never announce, read again when it changes")
	fs.StringVar(&bind, "ml-bindaddr", getenv("METALLB_ML_BIND_ADDR"), "`address` of the gossip ring (env METALLB_ML_BIND_ADDR; empty turns membership off)")
	fs.StringVar(&port, "ml-bindport", getenv("METALLB_ML_BIND_PORT"), "`port` of the gossip ring (env METALLB_ML_BIND_PORT; empty: 7946)")
	fs.StringVar(&peers, "ml-labels", getenv("METALLB_ML_LABELS"), "label `selector` of the speakers' pods (env METALLB_ML_LABELS; empty turns membership off)")
	fs.StringVar(&o.secretDir, "ml-secret-key-path", getenv("METALLB_ML_SECRET_KEY_PATH"),
		"`directory` with the file secretkey (env METALLB_ML_SECRET_KEY_PATH)")
	fs.BoolVar(&o.wan, "ml-wan-config", false, "use the slower timing for nodes that are far from each other")
	fs.StringVar(&o.tuningFile, "ml-config-file", "/etc/metallb/memberlist/config.json", "optional `file` with the timing of the gossip ring")
	given := manager.IgnoreFlags(fs, ignoredFlags)

	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q; expected flags only", fs.Arg(0))
	}
	for _, name := range given() {
		o.warnings = append(o.warnings, "--"+name+" has no effect")
	}
	if t := getenv("METALLB_BGP_TYPE"); t != "" && t != "native" {
		o.warnings = append(o.warnings, "METALLB_BGP_TYPE="+t+" has no effect: there is one way to speak BGP")
	}
	return o, errors.Join(o.process.Validate(), o.validate(), o.parseRing(bind, port, peers))
}

func (o *options) validate() error {
	var errs []error
	if o.node == "" {
		errs = append(errs, errors.New("--node-name is empty and METALLB_NODE_NAME is not set; expected the name of this node"))
	}
	if o.pod == "" {
		errs = append(errs, errors.New("--pod-name is empty and METALLB_POD_NAME is not set; expected the name of this pod"))
	}
	if o.refresh < 0 {
		errs = append(errs, fmt.Errorf("--l2-refresh-interval %s: expected 0 or more", o.refresh))
	}
	return errors.Join(errs...)
}

// parseRing reads the flags of membership. It is off unless both the address
// and the labels are given, as in MetalLB.
func (o *options) parseRing(bind, port, peers string) error {
	o.port = membership.DefaultPort
	if bind == "" || peers == "" {
		o.warnings = append(o.warnings,
			"membership is off (--ml-bindaddr or --ml-labels is empty): every node counts as alive, so a speaker must run on each")
		return nil
	}
	o.ring = true
	var errs []error
	var err error
	if o.bind, err = netip.ParseAddr(bind); err != nil {
		errs = append(errs, fmt.Errorf("--ml-bindaddr %q: expected an IP address", bind))
	}
	if port != "" {
		if o.port, err = strconv.Atoi(port); err != nil || o.port < 1 || o.port > 65535 {
			errs = append(errs, fmt.Errorf("--ml-bindport %q: expected 1 to 65535", port))
		}
	}
	if o.peers, err = labels.Parse(peers); err != nil {
		errs = append(errs, fmt.Errorf("--ml-labels %q: expected a label selector: %w", peers, err))
	}
	if o.secretDir == "" {
		errs = append(errs, errors.New("--ml-secret-key-path is empty; expected the directory of the gossip secret, which is mandatory: the ring is always encrypted"))
	}
	return errors.Join(errs...)
}
