package supervisor

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/heraldlb/herald/e2etest/lab"
	"github.com/heraldlb/herald/e2etest/lab/process"
)

// requestTimeout bounds reading a request; carrying it out has bounds of its own.
const requestTimeout = 5 * time.Second

// serve answers requests until ctx ends or one of them asks for the end.
func (s *Supervisor) serve(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for {
			conn, err := s.control.Accept()
			if err != nil {
				cancel()
				return
			}
			go func() {
				defer conn.Close()
				s.answer(ctx, conn, cancel)
			}()
		}
	}()
	<-ctx.Done()
}

// answer reads one request, carries it out and answers it.
func (s *Supervisor) answer(ctx context.Context, conn net.Conn, end context.CancelFunc) {
	if err := conn.SetReadDeadline(time.Now().Add(requestTimeout)); err != nil {
		return
	}
	var req lab.Request
	if err := json.NewDecoder(conn).Decode(&req); err != nil {
		return // nobody to answer
	}
	var res lab.Response
	if req.Verb == "down" {
		// The asker waits for the end of the process; an answer now only says
		// that it is coming.
		end()
	} else {
		text, err := s.carryOut(ctx, req)
		res.Text = text
		if err != nil {
			res.Error = err.Error()
		}
	}
	_ = json.NewEncoder(conn).Encode(res) // the asker may be gone
}

// verb is something the supervisor can be asked for.
type verb struct {
	usage string
	min   int // the smallest number of arguments
	do    func(ctx context.Context, args []string) (string, error)
}

func (s *Supervisor) verbs() map[string]verb {
	return map[string]verb{
		"status":    {"status", 0, s.status},
		"power-off": {"power-off NODE|ROUTER", 1, s.onMachine(s.powerOff)},
		"power-on":  {"power-on NODE|ROUTER", 1, s.onMachine(s.powerOn)},
		"pause":     {"pause NODE|ROUTER", 1, s.onMachine(s.pause)},
		"resume":    {"resume NODE|ROUTER", 1, s.onMachine(s.resume)},
		"link-down": {"link-down HOST [INTERFACE]", 1, s.link(false)},
		"link-up":   {"link-up HOST [INTERFACE]", 1, s.link(true)},
		"partition": {"partition HOST...", 1, s.partition},
		"heal":      {"heal", 0, s.heal},
		"kill":      {"kill HOST PROGRAM", 2, s.kill},
		"stop":      {"stop HOST PROGRAM", 2, s.program(false)},
		"start":     {"start HOST PROGRAM", 2, s.program(true)},
	}
}

// carryOut does what a request asks for.
func (s *Supervisor) carryOut(ctx context.Context, req lab.Request) (string, error) {
	verbs := s.verbs()
	v, ok := verbs[req.Verb]
	if !ok {
		var usages []string
		for _, v := range verbs {
			usages = append(usages, v.usage)
		}
		slices.Sort(usages)
		return "", fmt.Errorf("no such fault, want one of: %s", strings.Join(usages, ", "))
	}
	if len(req.Args) < v.min {
		return "", fmt.Errorf("want: %s", v.usage)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return v.do(ctx, req.Args)
}

// onMachine finds the node or router that a verb's first argument names.
func (s *Supervisor) onMachine(do func(context.Context, *machine) (string, error)) func(context.Context, []string) (string, error) {
	return func(ctx context.Context, args []string) (string, error) {
		m, err := s.machine(args[0])
		if err != nil {
			return "", err
		}
		return do(ctx, m)
	}
}

// find finds a program by its host: the control plane's, a node's agent or
// kube-proxy, a router's daemons.
func (s *Supervisor) find(host, program string) (*process.Process, error) {
	if host == s.state.Layout.ControlPlane.Name {
		return s.cp.Program(program)
	}
	m, err := s.machine(host)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range m.programs {
		if p.Name() == program {
			return p, nil
		}
		names = append(names, p.Name())
	}
	return nil, fmt.Errorf("no program %q on %s, want one of %v", program, m.host.Name, names)
}
