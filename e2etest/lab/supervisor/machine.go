package supervisor

import (
	"context"
	"slices"
	"strings"

	"github.com/heraldlb/herald/e2etest/lab"
	"github.com/heraldlb/herald/e2etest/lab/nsnet"
	"github.com/heraldlb/herald/e2etest/lab/process"
)

// machine is what has a power switch: a node or a router.
type machine struct {
	host     lab.Host
	net      *nsnet.Namespace
	programs []*process.Process
	on       bool // false between power-off and power-on
	// build makes its namespace, wires and routes anew, boot starts its programs
	// and returns when they serve.
	build func() error
	boot  func(context.Context) error
}

// machine finds a node or a router by name.
func (s *Supervisor) machine(name string) (*machine, error) {
	if r, ok := s.routers[name]; ok {
		return &r.machine, nil
	}
	h, err := s.state.Layout.Node(name)
	if err != nil {
		return nil, err
	}
	return &s.nodes[h.Name].machine, nil
}

// owns reports whether a network namespace is the machine's or one of its pods'.
func (m *machine) owns(namespace string) bool {
	return namespace == m.host.Namespace || strings.HasPrefix(namespace, m.host.Namespace+"-")
}

// stop ends the machine's own programs, those first that others stand on last.
func (m *machine) stop() {
	for _, p := range slices.Backward(m.programs) {
		p.Stop(0)
	}
	if m.net != nil {
		m.net.Close()
	}
}
